"""Rows as numbers, of every type that has a reading here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from tests.clean_drafters import gguf_drafter, specforge
from tests.tiny import edit, in_bfloat16
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.values import MOST_COLUMNS, row_values, rows_read, sampled
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.tensor_info import TensorInfo


def info(dtype: str, rows: int, width: int) -> TensorInfo:
    return TensorInfo("x", dtype, (rows, width), Path("x"), 0, 0)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_values_are_those_of_the_foreign_tool(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    number = GGMLQuantizationType[kind]
    packed = quantize(values, number)
    expected = dequantize(packed, number)
    found = row_values(packed.view(np.uint8).reshape(5, -1), info(kind, 5, 64))
    assert found is not None
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["F8_E4M3", "I32", "IQ2_XXS_"])
def test_other_types_say_nothing(kind: str) -> None:
    assert row_values(np.zeros((2, 64), np.uint8), info(kind, 2, 64)) is None


def test_samples_reach_from_the_first_row_to_the_last(tmp_path: Path) -> None:
    path = in_bfloat16(specforge(tmp_path / "d"))
    subject = Subject(path, Form.CHECKPOINT, Checkpoint.open(path))
    for most, count in ((8, 8), (64, 64), (1000, 64)):
        chosen = sampled(subject, most)
        assert chosen is not None
        rows, values = chosen
        assert (rows[0], rows[-1], rows.size) == (0, 63, count)
        assert values.shape == (count, 32)


def test_samples_of_a_gguf_head(tmp_path: Path) -> None:
    path = gguf_drafter(tmp_path / "d")
    chosen = sampled(Subject(path, Form.GGUF, gguf=open_gguf(path)), 4)
    assert chosen is not None
    assert chosen[1].shape == (4, 256)
    headless = gguf_drafter(tmp_path / "e", head=None)
    assert sampled(Subject(headless, Form.GGUF, gguf=open_gguf(headless)), 4) is None


def test_rows_are_read_where_they_lie(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    checkpoint = Checkpoint.open(path)
    head = checkpoint.tensors["lm_head.weight"]
    for rows in ([0], [63], [0, 1, 2, 9, 10, 63], range(64)):
        chosen = np.array(rows)
        read = rows_read(head, chosen)
        assert np.array_equal(read, checkpoint.rows("lm_head.weight")[chosen])


def test_rows_without_columns_or_too_many_are_left(tmp_path: Path) -> None:
    for width in (0, MOST_COLUMNS + 1):
        path = specforge(tmp_path / str(width))
        edit(path, add={"lm_head.weight": np.zeros((64, width), np.float32)})
        assert sampled(Subject(path, Form.CHECKPOINT, Checkpoint.open(path)), 4) is None
