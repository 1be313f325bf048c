"""What a drafter was is put back letter by letter, and later changes are carried over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.eagle3_layout import Layout
from vocabtrim.tensors.layout_memory import MEMORY_FILE, LayoutMemory, ids_hash

TEXT = '{"b":1,\n   "a": "ä", "K": 9}'
MEMORY = LayoutMemory("flat", TEXT, {"made": True}, ("x", "y"), "sha256:0")


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    MEMORY.write(tmp_path)
    assert LayoutMemory.read(tmp_path, Layout.FLAT) == MEMORY
    assert LayoutMemory.read(tmp_path, Layout.SPECULATORS) is None
    (tmp_path / MEMORY_FILE).unlink()
    assert LayoutMemory.read(tmp_path, Layout.FLAT) is None


def _back(config: Mapping[str, object]) -> dict[str, object]:
    """Say in the former layout what a converted config says."""
    return {"b": 2, "K": config.get("K", 9), **({"new": 2} if "new" in config else {})}


def test_what_was_not_touched_comes_back_letter_by_letter() -> None:
    assert MEMORY.config({"made": True}, _back) == TEXT


def test_only_what_was_changed_since_is_carried_over() -> None:
    """Where the way there and back says b otherwise, nobody has changed it."""
    text = MEMORY.config({"made": True, "K": 4, "new": 1}, _back)
    assert json.loads(text) == {"b": 1, "a": "ä", "K": 4, "new": 2}


@pytest.mark.parametrize(
    "change",
    [{"ids": 1}, {"made": []}, {"tensors": None}, {"unknown": 1}, {"tensors": [1]}],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    MEMORY.write(tmp_path)
    path = tmp_path / MEMORY_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"vocabtrim-original\.json.* damaged"):
        LayoutMemory.read(tmp_path, Layout.FLAT)


def test_ids_are_known_by_their_values() -> None:
    one, same, other = (DraftVocab(np.array(ids), 9) for ids in ([1, 3], [1, 3], [1, 4]))
    assert ids_hash(one) == ids_hash(same) != ids_hash(other)
