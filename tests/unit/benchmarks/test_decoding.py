"""The benchmark runs on models of a few kilobytes, and its figures are those of its seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import decoding
from benchmarks.decoding import (
    AGAIN,
    ALONE,
    ASSISTED,
    EAGLE3,
    FULL,
    GENERATE,
    REDUCED,
    TRIMMED,
    Arm,
    fastest,
    main,
    measure,
    ratio,
    searched,
    summary,
)
from tests.tiny import tiny_eagle3, tiny_lm, tiny_target
from tests.tiny_models import write_tokenizer
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.tokens.tokenizer import Tokenizer


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_tokenizer(tiny_target(tmp_path / "t"), chat=True)
    lm = write_tokenizer(tiny_lm(tmp_path / "lm"), chat=True)
    eagle3 = tiny_eagle3(tmp_path / "e")
    known = Tokenizer.open(target).fingerprint
    vocab = DraftVocab.from_ids(list(range(0, 96, 3)), 96, known)
    write_vocab(tmp_path / "v.safetensors", vocab, inputs={}, options={}, facts={})
    lines = [
        {"id": f"{split}{n}", "prompt": "red green blue", "split": split}
        for split in ("calibration", "heldout")
        for n in range(3)
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr(decoding, "GAMMAS", (1, 2))
    monkeypatch.setattr(decoding, "PROMISED", {"trimmed_over_assisted": 0.0})
    sizes = ["--prompts", "2", "--search-prompts", "1", "--max-new-tokens", "5", "--repeats", "2"]
    files = [f"--target={target}", f"--lm={lm}", f"--eagle3={eagle3}"]
    files += [f"--vocab={tmp_path / 'v.safetensors'}", f"--prompt-file={tmp_path / 'p.jsonl'}"]
    assert main([*files, *sizes, "--clock", "cpu", "--dtypes", "float32"]) == 0
    out = capsys.readouterr().out.splitlines()
    found = json.loads(out[-1])
    assert set(found["texts_different"]) == set(found["seconds"])
    assert set(found["texts_different"].values()) == {0}
    assert found["K"] == 32
    assert set(found["best"]) == {
        *(GENERATE, AGAIN, ALONE, ASSISTED, REDUCED, FULL, TRIMMED, EAGLE3)
    }
    settings = ("1", "2", "2, sure by 0.2", "2, sure by 0.4")
    assert found["best"][TRIMMED] in [f"{one} float32" for one in settings]
    assert all(len(taken) == 2 for taken in found["seconds"].values())
    assert {"trimmed_over_assisted", "autoregressive_over_generate"} <= found.keys()
    assert found["eagle3_over_autoregressive"] > 0
    assert found["noise"] >= 0
    monkeypatch.setattr(decoding, "PROMISED", {"trimmed_over_assisted": 1e6})
    assert main([*files, *sizes, "--dtypes", "float32", "bfloat16"]) == 1
    seconds = json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"]
    assert {name.rsplit(" ", 1)[1] for name in seconds} <= {"float32", "bfloat16"}
    assert len(seconds) >= 8


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([f"--target={tmp_path / 'nothing'}"]) == 2
    assert "nothing" in capsys.readouterr().err


def arm(group: str, setting: str, *totals: float) -> Arm:
    return Arm(group, setting, "float32", lambda _: [], [[one / 2, one / 2] for one in totals])


def test_figures_are_medians_of_each_repeat_s_ratio() -> None:
    arms = [
        arm(GENERATE, "", 10, 20, 10),
        arm(AGAIN, "", 11, 20, 9),
        arm(ALONE, "", 10, 10, 10),
        arm(ASSISTED, "1", 15, 30, 15),
        arm(ASSISTED, "2", 90, 14, 90),
        arm(REDUCED, "1", 10, 30, 12),
        arm(FULL, "1", 20, 20, 20),
        arm(TRIMMED, "1", 10, 10, 10),
        arm(EAGLE3, "3", 5, 4, 5),
    ]
    assert fastest(arms, ASSISTED).setting == "1"
    found = summary(arms)
    assert found["trimmed_over_assisted"] == 1.5
    assert found["autoregressive_over_generate"] == 1.0
    assert found["eagle3_over_autoregressive"] == 2.0
    assert found["trimmed_over_full"] == 2.0
    assert found["our_head_over_assisted"] == 1.25
    assert found["noise"] == pytest.approx(0.1)
    assert ratio(arms[0], arms[3]) == 1.5


def test_arms_take_turns_and_texts_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(decoding, "CLOCKS", {"wall": lambda: float(next(ticks))})
    called: list[str] = []

    def decode(name: str, tokens: Sequence[int]) -> decoding.Decode:
        def one(prompt: Sequence[int]) -> list[int]:
            called.append(f"{name}{prompt[0]}")
            return list(tokens)

        return one

    arms = [
        Arm(GENERATE, "", "float32", decode("a", [1])),
        Arm(AGAIN, "", "float32", decode("b", [2])),
    ]
    assert measure(arms, [[0], [1]], 2, "wall") == {
        "generate float32": 0,
        "generate, again float32": 2,
    }
    assert called == ["a0", "b0", "b1", "a1", "b0", "a0", "a1", "b1"]
    assert arms[0].seconds == [[1.0, 1.0], [1.0, 1.0]]
    coarse = [Arm(name, "", "bfloat16", decode("c", [3])) for name in (GENERATE, AGAIN)]
    # `generate` in bfloat16 against `generate` in float32, the rest within its dtype
    assert measure([*coarse, arms[0]], [[0], [1]], 1, "wall") == {
        "generate float32": 0,
        "generate bfloat16": 2,
        "generate, again bfloat16": 0,
    }
    assert measure(coarse, [[0]], 1, "wall") == {
        "generate bfloat16": 0,
        "generate, again bfloat16": 0,
    }


def test_noise_is_that_of_one_dtype() -> None:
    arms = [
        arm(name, "", 10, 10, 10)
        for name in (GENERATE, ALONE, ASSISTED, REDUCED, FULL, TRIMMED, EAGLE3)
    ]
    again = [arm(AGAIN, "", 11, 11, 11), arm(AGAIN, "", 10.5, 10.5, 10.5)]
    again[1].dtype = "bfloat16"
    assert summary([*arms, *again])["noise"] == pytest.approx(0.1)


def test_what_is_near_the_best_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    arms = [arm(ASSISTED, name) for name in "123"] + [arm(GENERATE, ""), arm(GENERATE, "slow")]

    def fixed(given: Sequence[Arm], *_: object) -> int:
        for one, taken in zip(given, (1.0, 1.09, 1.11, 9.0, 99.0), strict=True):
            one.seconds.append([taken])
        return 0

    monkeypatch.setattr(decoding, "measure", fixed)
    kept = searched(arms, [[1]], "wall")
    assert [(one.group, one.setting) for one in kept] == [
        (ASSISTED, "1"),
        (ASSISTED, "2"),
        (GENERATE, ""),
        (GENERATE, "slow"),
    ]
    # the search's own seconds are no measurement
    assert all(one.seconds == [] for one in kept)
