"""Reading back an independent drafter whose head has to be put in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import IDS, K, trimmed_lm
from tests.tiny import edit, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Container, Level
from vocabtrim.engines.transformers import PLUGIN


def test_a_trimmed_drafter(tmp_path: Path) -> None:
    read = PLUGIN.read_back(trimmed_lm(tmp_path / "d"), Container.FLAT)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()
    assert read.rows == K


def test_a_whole_one_has_no_map(tmp_path: Path) -> None:
    assert PLUGIN.read_back(tiny_lm(tmp_path / "d"), Container.FLAT).ids is None


def test_a_map_of_another_length(tmp_path: Path) -> None:
    path = trimmed_lm(tmp_path / "d")
    edit(path, add={"d2t": IDS[:-1]})
    with pytest.raises(CheckpointError, match="63 ids for a head of 64 rows"):
        PLUGIN.read_back(path, Container.FLAT)


def test_nothing_of_it_is_proven() -> None:
    assert {cell.level for cell in PLUGIN.cells} == {Level.BY_READING}
