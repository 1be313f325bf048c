import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recipes import train_eagle3, train_lm
from recipes.training.state import Settings, State, Store
from tests.unit.recipes.world import world, write_generated
from vocabtrim.core.errors import OutputExists

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def options(tmp_path):
    target = world(tmp_path)
    text = write_generated(tmp_path / "g.jsonl", target)
    return [
        *("--target", str(target), "--generated", str(text), "--row-tokens", "32"),
        *("--rows", "4", "--block", "3", "--warmup", "5", "--evaluate", "10"),
        *("--heldout-share", "0.1", "--rate", "5e-3", "--sampled", "32", "--accumulate", "2"),
    ]


EAGLE3 = ("--layers", "1", "2", "3")


def curve(work: Path, phase: str = "constant") -> list[dict]:
    return [json.loads(line) for line in (work / phase / "curve.jsonl").open()]


def weights(work: Path, phase: str = "constant") -> bytes:
    return (work / phase / "drafter" / "model.safetensors").read_bytes()


def test_the_loss_falls_for_both_drafters(options, tmp_path):
    recipes = ((train_eagle3, EAGLE3, 3), (train_lm, ("--layers", "0", "3"), 1))
    for recipe, own, steps in recipes:
        work = tmp_path / recipe.__name__
        assert recipe.main([*options, *own, "--work", str(work), "--steps", "30"]) == 0
        points = curve(work)
        assert [one["step"] for one in points] == [0, 4, 8, 10, 16, 20, 30]
        assert points[-1]["loss"] < points[0]["loss"] - 0.1
        assert len(points[-1]["agreement"]) == steps
        assert points[-1]["visits"] > points[1]["visits"] > 0


def test_bfloat16_learns_the_same(options, tmp_path):
    """Matrices are multiplied in bfloat16; what is kept, and measured, is float32."""
    lower = ("--dtype", "bfloat16", "--target-dtype", "bfloat16")
    for recipe, own in ((train_eagle3, EAGLE3), (train_lm, ("--layers", "0", "3"))):
        found = {}
        for name, precision in (("float32", ()), ("bfloat16", lower)):
            work = tmp_path / f"{recipe.__name__}-{name}"
            common = [*options, *own, "--work", str(work), "--steps", "30"]
            assert recipe.main([*common, *precision]) == 0
            found[name] = [one["loss"] for one in curve(work)]
            held = _tensors(work / "constant" / "state.safetensors")
            assert {one.dtype for one in held.values()} == {torch.float32}
        assert found["bfloat16"][-1] < found["bfloat16"][0] - 0.1
        assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.02)
        assert found["bfloat16"][1:] != found["float32"][1:]


def test_a_killed_run_continues_bit_by_bit(options, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    common = [*options, *EAGLE3, "--checkpoint-minutes", "0"]
    train_eagle3.main([*common, "--work", str(whole), "--steps", "16"])
    command = [sys.executable, "-m", "recipes.train_eagle3", *common, "--work", str(killed)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    store = Store(killed, "constant")
    while (store.read_state() or State()).step < 5 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = store.read_state()
    assert there is not None
    assert 5 <= there.step < 16, "it was not killed in the middle"
    train_eagle3.main([*common, "--work", str(killed), "--steps", "16"])
    assert weights(killed) == weights(whole)
    moments = [Path(work, "constant", "state.safetensors") for work in (killed, whole)]
    read = [_tensors(one) for one in moments]
    assert read[0].keys() == read[1].keys()
    assert all(one.equal(read[1][name]) for name, one in read[0].items())
    keys = ("step", "visits", "loss", "agreement")
    assert [[p[k] for k in keys] for p in curve(killed)] == [
        [p[k] for k in keys] for p in curve(whole)
    ]


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


def test_a_decay_leaves_the_constant_run_as_it_was(options, tmp_path):
    work, other = tmp_path / "work", tmp_path / "other"
    common = [*options, *EAGLE3]
    train_eagle3.main([*common, "--work", str(work), "--steps", "6"])
    before = (work / "constant" / "state.safetensors").read_bytes()
    train_eagle3.main([*common, "--work", str(work), "--decay-minutes", "0.02"])
    decayed = Store(work, "decayed").read_state()
    assert decayed is not None
    assert decayed.decay == 6
    assert decayed.step == decayed.end
    assert (work / "constant" / "state.safetensors").read_bytes() == before
    assert weights(work, "decayed") != weights(work)
    assert [p["step"] for p in curve(work, "decayed")][:3] == [0, 4, 6]
    assert curve(work, "decayed")[-1]["rate"] < 5e-3
    # the constant run goes on as if there had been no decay
    train_eagle3.main([*common, "--work", str(work), "--steps", "9"])
    train_eagle3.main([*common, "--work", str(other), "--steps", "9"])
    assert weights(work) == weights(other)


def test_other_data_and_another_drafter_are_refused(options, tmp_path, capsys):
    work = tmp_path / "work"
    train_lm.main([*options, "--layers", "0", "3", "--work", str(work), "--steps", "1"])
    changed = [*options, "--limit-tokens", "100", "--work", str(work), "--steps", "2"]
    assert train_lm.main([*changed, "--layers", "0", "3"]) == 2
    assert "--new-data" in capsys.readouterr().err
    assert train_lm.main([*changed, "--layers", "0", "3", "--new-data"]) == 0
    assert train_lm.main([*options, "--layers", "0", "--work", str(work)]) == 2
    assert "another drafter" in capsys.readouterr().err


def test_one_process_trains_in_a_directory(options, tmp_path, capsys):
    from recipes.training.state import locked

    work = tmp_path / "work"
    with locked(work):
        assert train_lm.main([*options, "--layers", "0", "--work", str(work)]) == 2
        with pytest.raises(OutputExists), locked(work):
            pass
    assert "another process" in capsys.readouterr().err


def test_sigterm_saves_and_ends(options, tmp_path, capsys):
    work = tmp_path / "work"
    command = [*options, "--layers", "0", "--work", str(work), "--minutes", "5"]
    target = Store(work, "constant")

    def say_and_stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    import builtins

    original = builtins.print
    builtins.print = say_and_stop
    try:
        assert train_lm.main(command) == 0
    finally:
        builtins.print = original
    state = target.read_state()
    assert state is not None
    assert state.step <= 1


def test_the_run_says_what_it_was_made_from(options, tmp_path):
    work = tmp_path / "work"
    train_lm.main([*options, "--layers", "0", "--work", str(work), "--steps", "1"])
    document = json.loads((work / "run.json").read_text())
    assert document["data"]["generated"]["files"].keys() == {"g.jsonl"}
    assert set(document["data"]["generated"]["learnt_tokens_by_domain"]) == {"code", "math"}
    assert document["settings"]["rate"] == 5e-3
    assert document["batch_tokens"] == 4 * 32 * 2


def test_the_rate_is_a_ramp_a_constant_and_a_decay():
    settings = Settings(rate=1.0, warmup=4)
    state = State(step=100, decay=100, length=25)
    assert [State().rate(settings, step) for step in (0, 1, 3, 50)] == [0.25, 0.5, 1.0, 1.0]
    assert state.rate(settings, 99) == state.rate(settings, 100) == 1.0
    assert 0 < state.rate(settings, 124) < state.rate(settings, 101) < 1
    assert state.rate(settings, 125) == 0


@pytest.mark.parametrize("share", [0.05, 0.0, 0.2])
def test_the_last_steps_of_a_decay_see_the_full_softmax(share):
    settings = Settings(full_share=share)
    for step, minutes in ((10, 1.0), (400, 1.0), (400, 100.0), (0, 0.0)):
        begun = State(step=step, seconds=10.0 * step)
        state = State(step=step, decay=step, length=begun.decay_length(minutes, share))
        assert state.end is not None
        full = [one for one in range(state.end) if state.full(settings, one)]
        assert len(full) == math.ceil(share * state.end)
        assert full == list(range(state.end - len(full), state.end))
    assert not State(step=400).full(settings, 400)
