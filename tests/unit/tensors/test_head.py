"""Rows are chosen by packing, and rows that do not exist are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import V, tiny_lm
from vocabtrim.core.errors import CheckpointError, PluginError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head import PACKINGS, HeadTensor, select_rows

EMBEDDING = HeadTensor("model.embed_tokens.weight")


def test_plain_rows_are_known() -> None:
    assert "plain" in PACKINGS.names()


def test_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    opened = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    rows = np.array([5, 3, 3, V - 1, 0])
    taken = b"".join(select_rows(opened, EMBEDDING, rows))
    assert taken == opened.rows(EMBEDDING.name)[rows].tobytes()


@pytest.mark.parametrize("row", [-1, V])
def test_a_row_that_does_not_exist(tmp_path: Path, row: int) -> None:
    opened = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    with pytest.raises(CheckpointError, match=f"has {V} rows, but rows"):
        select_rows(opened, EMBEDDING, np.array([0, row]))


def test_an_unknown_packing_names_those_there_are(tmp_path: Path) -> None:
    opened = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    with pytest.raises(PluginError, match="called 'odd'; there are gguf_blocks, plain"):
        select_rows(opened, HeadTensor(EMBEDDING.name, packing="odd"), np.array([0]))
