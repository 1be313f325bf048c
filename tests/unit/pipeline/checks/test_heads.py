"""Heads: what is looked at, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import K, V, sidecar, specforge, target, trimmed_eagle, trimmed_lm
from tests.tiny import edit, tiny_lm
from vocabtrim.pipeline.checks import heads
from vocabtrim.pipeline.checks.base import Finding, Severity
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path) -> Subject:
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path))


def test_a_missing_head_names_both_sizes(tmp_path: Path) -> None:
    subject = looked(edit(specforge(tmp_path / "d"), drop=["lm_head.weight"]))
    (said,) = heads.missing(subject)
    assert said.what == "it drafts over 64 of 256 ids and has no lm_head.weight"
    assert not list(heads.unfilled(subject))


def test_a_borrowed_head_of_all_rows_is_not_missing(tmp_path: Path) -> None:
    path = edit(
        specforge(tmp_path / "d"),
        drop=["lm_head.weight", "d2t", "t2d"],
        config={"draft_vocab_size": V},
    )
    assert not list(heads.missing(looked(path)))
    assert len(list(heads.unfilled(looked(path)))) == 1
    # null is what SGLang asks for
    assert not list(heads.unfilled(looked(edit(path, config={"draft_vocab_size": None}))))


@pytest.mark.parametrize("build", [trimmed_lm, trimmed_eagle])
def test_a_class_that_is_refused_on_purpose_is_a_note(tmp_path: Path, build: object) -> None:
    path = build(tmp_path / "d")  # type: ignore[operator]
    (said,) = heads.stock_name(looked(path))
    judged = {name: Finding.of("n", said, [name]) for name in ("vllm", "llama.cpp", "sglang")}
    alone = Finding.of("n", said)
    assert alone is not None
    assert alone.severity is Severity.NOTE
    found = {name: one.severity for name, one in judged.items() if one is not None}
    # our plug-in has a head for this class; the others have none, or slice the target's
    assert found == {
        "vllm": Severity.NOTE,
        "llama.cpp": Severity.FAULT,
        "sglang": Severity.FAULT,
    }


def test_a_class_that_no_plug_in_knows_is_a_fault_to_who_asks(tmp_path: Path) -> None:
    path = edit(trimmed_lm(tmp_path / "d"), config={"architectures": ["TrimmedGPT2LMHeadModel"]})
    (said,) = heads.stock_name(looked(path))
    asked = Finding.of("n", said, ["vllm"])
    assert asked is not None
    assert asked.severity is Severity.FAULT


def test_models_with_all_rows_and_sidecars_have_any_class(tmp_path: Path) -> None:
    for path in (target(tmp_path / "t"), tiny_lm(tmp_path / "l"), sidecar(tmp_path / "s")):
        assert not list(heads.stock_name(looked(path)))
        assert not list(heads.tied(looked(path)))


def test_the_outer_word_on_tying_counts(tmp_path: Path) -> None:
    path = trimmed_lm(tmp_path / "d")
    assert not list(heads.tied(looked(path)))
    assert list(heads.tied(looked(edit(path, config={"tie_word_embeddings": True}))))


def test_dead_rows_are_counted_and_named(tmp_path: Path) -> None:
    values = np.ones((K, 32), np.float32)
    values[[5, 9]] = 0
    values[11, 3] = np.inf
    path = edit(specforge(tmp_path / "d"), add={"lm_head.weight": values})
    infinite, zero = heads.dead_rows(looked(path))
    assert infinite.what == "1 of 64 rows looked at are no finite numbers (row 11)"
    assert zero.what == "2 of 64 rows looked at are all zeros (row 5)"
