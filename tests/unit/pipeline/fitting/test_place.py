"""Whose a directory is, and what of an earlier fit stays in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vocabtrim.core.errors import ArtifactError, OutputExists
from vocabtrim.core.manifest import DIRECTORY_MANIFEST
from vocabtrim.pipeline.fitting.place import begin
from vocabtrim.pipeline.fitting.request import Fit

MADE = ("fit.json", "vocab.safetensors", "trimmed.gguf", "for-llama.cpp.gguf")
MADE_DIRECTORIES = ("trimmed", "for-vllm", "for-sglang", "for-transformers")


@pytest.fixture
def asked(tmp_path: Path) -> Fit:
    return Fit("d", "t", ["log"], "vllm", tmp_path / "out")


def fill(output: Path, *, ended: bool) -> None:
    """Write all that a fit may leave, and a note of somebody's."""
    for name in (*MADE, "counts.safetensors", "notes.txt"):
        (output / name).touch()
    for name in MADE_DIRECTORIES:
        (output / name).mkdir()
        (output / name / "config.json").touch()
    if not ended:
        (output / "fit.json").unlink()


def names(output: Path) -> set[str]:
    return {path.name for path in output.iterdir()}


def test_it_says_what_was_asked_for(asked: Fit) -> None:
    begin(asked, "sha256:t", force=False)
    document = json.loads((asked.output / DIRECTORY_MANIFEST).read_text())
    assert document["kind"] == "fit"
    assert document["options"] == asked.options()
    assert document["inputs"] == {"tokenizer": "sha256:t"}


def test_counts_stay_and_what_was_made_does_not(asked: Fit) -> None:
    begin(asked, "sha256:t", force=False)
    fill(asked.output, ended=True)
    with pytest.raises(OutputExists, match="give --force to replace it"):
        begin(asked, "sha256:t", force=False)
    assert names(asked.output) > set(MADE)
    begin(replace(asked, engine="sglang"), "sha256:t", force=True)
    assert names(asked.output) == {"counts.safetensors", "notes.txt", DIRECTORY_MANIFEST}


@pytest.mark.parametrize("what", ["tokenizer", "version"])
def test_counts_of_another_tokenizer_or_version_do_not(asked: Fit, what: str) -> None:
    begin(asked, "sha256:t", force=False)
    fill(asked.output, ended=False)
    if what == "version":
        path = asked.output / DIRECTORY_MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tool": "vocabtrim 0.0"}))
    begin(asked, "sha256:other" if what == "tokenizer" else "sha256:t", force=False)
    assert "counts.safetensors" not in names(asked.output)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("drafter", "other", "with drafter d, not other"),
        ("traffic", ["a", "b"], "with traffic log, not a, b"),
        ("family", "mtp", "with family none, not mtp"),
        ("cap_per_document", 3, "with cap per document none, not 3"),
    ],
)
def test_an_unfinished_fit_is_anothers(asked: Fit, name: str, value: object, said: str) -> None:
    begin(asked, "sha256:t", force=False)
    other = replace(asked, **{name: value})
    with pytest.raises(OutputExists, match=f"a fit was begun there {said}; give --force to begin"):
        begin(other, "sha256:t", force=False)
    begin(other, "sha256:t", force=True)
    begin(other, "sha256:t", force=False)


def test_k_may_be_chosen_otherwise(asked: Fit) -> None:
    begin(asked, "sha256:t", force=False)
    begin(replace(asked, top_k=64, gamma=7, latency=Path("l")), "sha256:t", force=False)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_fit_stays_as_it_is(asked: Fit, force: bool) -> None:
    asked.output.mkdir()
    path = asked.output / DIRECTORY_MANIFEST
    (asked.output / "trimmed").mkdir()
    with pytest.raises(OutputExists, match="give --force" if not force else "no vocabtrim"):
        begin(asked, "sha256:t", force=force)
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="damaged"):
        begin(asked, "sha256:t", force=force)
    begin(replace(asked, output=asked.output / "fit"), "sha256:t", force=force)
    document = json.loads((asked.output / "fit" / DIRECTORY_MANIFEST).read_text())
    path.write_text(json.dumps(document | {"kind": "exported drafter"}))
    with pytest.raises(OutputExists, match=r"it is no fit \(exported drafter\): choose another"):
        begin(asked, "sha256:t", force=force)
    assert (asked.output / "trimmed").exists()
