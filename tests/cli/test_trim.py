"""`vocabtrim trim` as a user meets it, on the demo pair."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.cli.conftest import Command
from tests.tiny_gguf import V as GGUF_V
from tests.tiny_gguf import read_gguf, tiny_gguf, tiny_gguf_target
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.families.base import FAMILIES
from vocabtrim.pipeline.fingerprints import fingerprint_at
from vocabtrim.tensors.built_in import demo_gguf
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.tokenizer import fingerprint_of

IDS = np.unique(np.concatenate([[2], np.arange(100, 49_152, 97)]))


@pytest.fixture
def vocab(tmp_path: Path, demo_cache: Path) -> Path:
    """Some ids of the demo target's tokenizer."""
    ids = DraftVocab(IDS, 49_152, fingerprint_of(locate("demo")))
    write_vocab(tmp_path / "v", ids, inputs={}, options={}, facts={})
    return tmp_path / "v"


def tensor_bytes(directory: Path, name: str) -> bytes:
    """Read a tensor's bytes through the safetensors library."""
    import torch

    with safe_open(directory / "model.safetensors", framework="pt") as file:
        tensor = file.get_tensor(name)
        return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("drafter", ["demo-eagle3", "demo-lm"])
def test_kept_rows_and_everything_else_are_the_same_bytes(
    vocabtrim: Command, vocab: Path, tmp_path: Path, drafter: str
) -> None:
    import torch

    outcome = vocabtrim(
        *("trim", drafter, "--vocab", vocab, "--target", "demo", "-o", tmp_path / "out"),
        *("--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    with safe_open(locate("demo") / "model.safetensors", framework="pt") as file:
        rows = file.get_tensor("model.embed_tokens.weight")[torch.from_numpy(IDS)]
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert torch.equal(file.get_tensor("lm_head.weight"), rows)
        assert torch.equal(file.get_tensor("d2t") + torch.arange(IDS.size), torch.from_numpy(IDS))
        assert torch.equal(file.get_tensor("t2d").nonzero()[:, 0], torch.from_numpy(IDS))
    source = locate(drafter)
    with safe_open(source / "model.safetensors", framework="pt") as file:
        before = set(file.keys())
    assert names == before | {"lm_head.weight", "d2t", "t2d"}
    for name in before:
        assert tensor_bytes(tmp_path / "out", name) == tensor_bytes(source, name)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["vocab_size"], config["draft_vocab_size"]) == (49_152, IDS.size)
    assert config["tie_word_embeddings"] is False
    assert json.loads((tmp_path / "r.json").read_text())["trim"]["K"] == IDS.size


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demo-eagle3"], "give --target"),
        (["nowhere"], "'nowhere' is neither a directory"),
        (["EMPTY"], "config.json"),
        (["demo-lm", "--vocab", "missing"], "missing: no such file"),
        (["demo-lm", "--vocab", "OTHER"], "tokenizer"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    vocabtrim: Command, vocab: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    other = DraftVocab(IDS, 49_152, "sha256:another")
    write_vocab(tmp_path / "other", other, inputs={}, options={}, facts={})
    places = {"EMPTY": tmp_path / "empty", "OTHER": tmp_path / "other"}
    chosen = [] if "--vocab" in arguments else ["--vocab", vocab]
    outcome = vocabtrim(
        "trim", *(places.get(part, part) for part in arguments), *chosen, "-o", tmp_path / "out"
    )
    assert outcome.code == 2
    assert says in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_kept(vocabtrim: Command, vocab: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear")
    for force in ([], ["--force"]):
        outcome = vocabtrim("trim", "demo-lm", "--vocab", vocab, "-o", tmp_path / "out", *force)
        assert outcome.code == 2
        assert (tmp_path / "out" / "diary.txt").read_text() == "dear"


def test_a_disk_that_fills_up_leaves_nothing(vocab: Path, tmp_path: Path) -> None:
    output = tmp_path / "place" / "out"
    command = [sys.executable, "-m", "vocabtrim", "trim", "demo-lm"]
    outcome = subprocess.run(
        [*command, "--vocab", str(vocab), "-o", str(output)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)),
    )
    assert outcome.returncode == 1
    assert "no room left" in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert list((tmp_path / "place").iterdir()) == []


def test_of_a_target_that_brings_a_drafter_the_family_is_asked_for(
    vocabtrim: Command, tmp_path: Path
) -> None:
    FAMILIES.load("mtp").tiny_checkpoint(tmp_path / "target", vocab_size=96, hidden=32, seed=0)
    ids = DraftVocab(np.arange(0, 96, 3), 96)
    write_vocab(tmp_path / "v", ids, inputs={}, options={}, facts={})
    command = ("trim", tmp_path / "target", "--vocab", tmp_path / "v", "-o", tmp_path / "out")
    refused = vocabtrim(*command)
    assert refused.code == 2
    assert "a drafter of independent and mtp at once: say with --family" in refused.err
    assert not (tmp_path / "out").exists()
    done = vocabtrim(*command, "--family", "mtp")
    assert done.code == 0, done.err
    assert "96 → 32 rows of 32 (F32), from the lm_head of the target it is part of" in done.out
    assert json.loads((tmp_path / "out/token_map.json").read_text())["ids"] == ids.ids.tolist()
    unknown = vocabtrim(*command, "--family", "medusa", "--force")
    assert unknown.code == 2
    assert "no drafter family is called 'medusa'" in unknown.err


def test_weights_of_torch_that_would_run_code_are_refused(
    vocabtrim: Command, tmp_path: Path
) -> None:
    import torch

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("ran",)

    (tmp_path / "d").mkdir()
    (tmp_path / "d/config.json").write_text("{}")
    torch.save({"lm_head.weight": Runs()}, tmp_path / "d/pytorch_model.bin")
    write_vocab(tmp_path / "v", DraftVocab(np.arange(4), 9), inputs={}, options={}, facts={})
    outcome = vocabtrim("trim", tmp_path / "d", "--vocab", tmp_path / "v", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "nothing was loaded" in outcome.err
    assert "ran" not in outcome.out.split()
    assert len(outcome.err.strip().splitlines()) == 1


def test_a_gguf_drafter_becomes_a_gguf_file(vocabtrim: Command, tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    kept = DraftVocab(np.arange(0, GGUF_V, 3), GGUF_V, fingerprint_at(drafter))
    write_vocab(tmp_path / "v", kept, inputs={}, options={}, facts={})
    outcome = vocabtrim(
        *("trim", drafter, "--vocab", tmp_path / "v", "--target", target),
        *("-o", tmp_path / "out.gguf", "--head-type", "q4_0"),
    )
    assert outcome.code == 0, outcome.err
    assert "96 → 32 rows of 256 (Q8_0 → Q4_0), from the target's tied embedding" in outcome.out
    assert "MB added" in outcome.out
    assert read_gguf(tmp_path / "out.gguf").types["output.weight"] == "Q4_0"


def test_a_type_that_cannot_be_written_is_one_sentence(
    vocabtrim: Command, vocab: Path, tmp_path: Path
) -> None:
    outcome = vocabtrim(
        *("trim", "demo-eagle3", "--vocab", vocab, "--target", "demo"),
        *("-o", tmp_path / "out", "--head-type", "q4_0"),
    )
    assert outcome.code == 2
    assert "Q4_0 is a type of GGUF" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_gguf_model_without_a_reduced_head_is_converted_and_that_is_said(
    vocabtrim: Command, vocab: Path, tmp_path: Path
) -> None:
    outcome = vocabtrim("trim", demo_gguf(), "--vocab", vocab, "-o", tmp_path / "out.gguf")
    assert outcome.code == 0, outcome.err
    assert "becomes a directory of safetensors" in outcome.err
    assert (tmp_path / "out.gguf" / "model.safetensors").is_file()
