"""The worked example of docs/adding/family.md is a family that works."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, numbers, raw_tensors, tiny_target
from vocabtrim.core import registry
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import FAMILIES, family_of, known_families
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import Checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "adding" / "family.md"
PART = DraftVocab(np.arange(0, V, 5), V)


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the example where an installed package would put it."""
    block = re.search(r'```python title="[^"]*dflash\.py"\n(.*?)```', PAGE.read_text(), re.S)
    assert block is not None
    (tmp_path / "package").mkdir()
    (tmp_path / "package/example_dflash.py").write_text(block[1])
    monkeypatch.syspath_prepend(tmp_path / "package")
    monkeypatch.delitem(sys.modules, "example_dflash", raising=False)
    point = EntryPoint("dflash", "example_dflash", "vocabtrim.families")

    def points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [point] if group == point.group and name in (None, point.name) else []

    monkeypatch.setattr(registry, "entry_points", points)


@pytest.mark.usefixtures("_installed")
def test_the_example_is_listed_and_recognises_only_its_own(tmp_path: Path) -> None:
    assert "dflash" in FAMILIES.names()
    for name, family in FAMILIES.load_all().items():
        family.tiny_checkpoint(tmp_path / name, vocab_size=V, hidden=H, seed=1)
        known = {one.name for one in known_families(Checkpoint.open(tmp_path / name))}
        assert ("dflash" in known) is (name == "dflash")
    assert family_of(Checkpoint.open(tmp_path / "dflash")).name == "dflash"


@pytest.mark.usefixtures("_installed")
def test_the_example_is_trimmed_and_trimmed_again(tmp_path: Path) -> None:
    family = FAMILIES.load("dflash")
    family.tiny_checkpoint(tmp_path / "d", vocab_size=V, hidden=H, seed=1)
    target = tiny_target(tmp_path / "t")
    result = trim(tmp_path / "d", PART, tmp_path / "once", target=target)
    rows = numbers(raw_tensors(target)["model.embed_tokens.weight"])
    written = raw_tensors(tmp_path / "once")
    assert np.array_equal(numbers(written["lm_head.weight"]), rows[PART.ids])
    assert result.step_bytes_before - result.step_bytes == 4 * (V - PART.size) * H
    less = DraftVocab(PART.ids[:4], V)
    trim(tmp_path / "once", less, tmp_path / "twice")
    trim(tmp_path / "d", less, tmp_path / "direct", target=target)
    assert raw_tensors(tmp_path / "twice") == raw_tensors(tmp_path / "direct")
    with pytest.raises(DecodeError, match="DFlash is not decoded here"):
        opened = Checkpoint.open(tmp_path / "d")
        family.load_drafter(opened, Checkpoint.open(target), None, None)
