"""Medusa: one shared head can be reduced, one for each position cannot."""

from __future__ import annotations

from pathlib import Path

from tests.clean_drafters import specforge
from tests.planted_faults import medusa
from tests.tiny import edit
from vocabtrim.pipeline.checks.medusa import PLUGIN
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def names(path: Path) -> list[str]:
    subject = Subject(path, Form.CHECKPOINT, Checkpoint.open(path))
    return [check.name for check in PLUGIN if list(check.find(subject))]


def test_a_shared_head_with_its_map(tmp_path: Path) -> None:
    path = medusa()(tmp_path / "d")
    assert not names(path)
    # all ids need neither
    edit(path, drop=["token_map"], config={"truncated_vocab_size": 256, "original_lm_head": False})
    assert not names(path)


def test_a_head_for_each_position(tmp_path: Path) -> None:
    assert names(medusa(original_lm_head=False)(tmp_path / "d")) == ["medusa-heads"]


def test_others_are_not_looked_at(tmp_path: Path) -> None:
    assert not names(edit(specforge(tmp_path / "d"), config={"truncated_vocab_size": 3}))
