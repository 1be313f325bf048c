"""`vocabtrim inspect` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.tiny import tiny_eagle3
from vocabtrim.families.base import FAMILIES


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("demo-eagle3", ["eagle3", "49,152 ids", "the target's tied embedding", "head 87%"]),
        ("demo-lm", ["independent", "49,152 ids", "its own tied embedding", "head 67%"]),
        ("demo", ["134.5M", "head 21%"]),
    ],
)
def test_a_dozen_lines_tell_what_a_drafter_is(
    vocabtrim: Command, demo_cache: Path, tmp_path: Path, what: str, says: list[str]
) -> None:
    outcome = vocabtrim("inspect", what, "--target", "demo", "--json", tmp_path / "r.json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) <= 13
    for part in says:
        assert part in outcome.out
    assert json.loads((tmp_path / "r.json").read_text())["inspect"]["what"] == what


def test_counts_describe_themselves(vocabtrim: Command, counts: Path) -> None:
    outcome = vocabtrim("inspect", counts)
    assert "documents:    2" in outcome.out
    assert "1 (3), 2 (2)" in outcome.out
    assert "never seen:   5 of 10 ids" in outcome.out
    assert "enough?:      cannot be told: it takes 9 documents or more" in outcome.out


def test_what_is_nothing_of_ours_says_so(vocabtrim: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    outcome = vocabtrim("inspect", tmp_path / "text")
    assert outcome.code == 2
    assert "not a readable safetensors" in outcome.err


def test_a_target_that_brings_its_own_drafter(vocabtrim: Command, tmp_path: Path) -> None:
    FAMILIES.load("mtp").tiny_checkpoint(tmp_path / "t", vocab_size=96, hidden=32, seed=0)
    both = vocabtrim("inspect", tmp_path / "t")
    assert both.code == 0, both.err
    assert "independent (an ordinary causal LM" in both.out
    assert "mtp (--family mtp)" in both.out
    alone = vocabtrim("inspect", tmp_path / "t", "--family", "mtp")
    assert "mtp (a target's own prediction layers" in alone.out


def test_a_part_of_a_drafter_leads_to_its_directory(vocabtrim: Command, tmp_path: Path) -> None:
    drafter = tiny_eagle3(tmp_path / "d")
    for name in ("model.safetensors", "config.json"):
        outcome = vocabtrim("inspect", drafter / name)
        assert outcome.code == 2
        assert "of a drafter or a target, give the directory" in outcome.err
