"""Block drafters: recognised by their class, and left alone with all ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import K, V, specforge
from tests.planted_faults import block, markov
from tests.tiny import edit
from vocabtrim.pipeline.checks.base import Kind
from vocabtrim.pipeline.checks.blocks import PLUGIN, missing
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path) -> Subject:
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path))


def names(subject: Subject) -> list[str]:
    return [check.name for check in PLUGIN if list(check.find(subject))]


def test_others_are_not_looked_at(tmp_path: Path) -> None:
    assert not names(looked(specforge(tmp_path / "d")))


def test_all_ids_with_the_targets_head(tmp_path: Path) -> None:
    path = block(drop=["lm_head.weight", "d2t", "t2d"], config={"draft_vocab_size": V})
    assert not names(looked(path(tmp_path / "d")))


@pytest.mark.parametrize(("kind", "effect"), [("DFlash", Kind.WRONG), ("DSpark", Kind.REFUSES)])
def test_one_engine_refuses_one_kind_and_guesses_the_other(
    tmp_path: Path, kind: str, effect: Kind
) -> None:
    (said,) = missing(looked(block(kind, drop=["d2t", "t2d"])(tmp_path / "d")))
    assert [one.kind for one in said.effects] == [effect]


def test_a_table_of_the_heads_rows(tmp_path: Path) -> None:
    path = block("DSpark", add=markov(K))(tmp_path / "d")
    assert names(looked(path)) == ["block-ignored"]
    edit(path, add=markov(V))
    assert names(looked(path)) == ["block-ignored", "block-markov"]
