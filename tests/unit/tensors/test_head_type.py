"""Heads in other types, against gguf's quantisers; what cannot be is said."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from tests.tiny_gguf import ENCODABLE, FLOATS, H
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_types import type_named
from vocabtrim.tensors.head_type import encodable_types, retyped, writable_type
from vocabtrim.tensors.tensor_info import TensorInfo

VALUES = np.random.default_rng(0).normal(0, 0.2, (10, H)).astype(np.float32)


def stored(dtype: str, rows: np.ndarray = VALUES) -> tuple[TensorInfo, list[bytes]]:
    """Return rows in a type, in two chunks, and the tensor that they are of."""
    data = np.ascontiguousarray(quantize(rows, gguf.GGMLQuantizationType[dtype])).view(np.uint8)
    data = data.reshape(len(rows), -1)
    info = TensorInfo("output.weight", dtype, rows.shape, Path("x.gguf"), 0, data.nbytes)
    return info, [data[:3].tobytes(), data[3:].tobytes()]


@pytest.mark.parametrize("to", ENCODABLE)
@pytest.mark.parametrize("source", ["F32", "BF16", "Q8_0"])
def test_rows_are_decoded_and_encoded_by_gguf(source: str, to: str) -> None:
    info, chunks = stored(source)
    values = dequantize(
        np.frombuffer(b"".join(chunks), np.uint8).reshape(10, -1), gguf.GGMLQuantizationType[source]
    )
    expected = np.ascontiguousarray(quantize(values, gguf.GGMLQuantizationType[to])).tobytes()
    kind = writable_type(to.lower(), hidden=H, gguf=True)
    given = b"".join(retyped(chunks, info, kind))
    assert given == (b"".join(chunks) if to == source else expected)
    assert len(given) == kind.bytes_of((10, H))


def test_the_types_offered_are_those_that_gguf_can_write() -> None:
    assert set(encodable_types()) >= set(ENCODABLE)
    assert encodable_types()[0] == "F32"
    for name in encodable_types():
        kind = writable_type(name, hidden=H, gguf=True)
        assert b"".join(retyped(stored("F32")[1], stored("F32")[0], kind))


@pytest.mark.parametrize(
    ("name", "hidden", "in_gguf", "message"),
    [
        ("q4_k", H, True, "no head can be written as q4_k; there are F32, "),
        ("nonsense", H, True, "no head can be written as nonsense"),
        ("i32", H, True, "no head can be written as i32"),
        ("q8_0", H, False, "Q8_0 is a type of GGUF, and this drafter is safetensors"),
        ("q8_0", 48, True, "packs 32 values in a block, and the head's rows of 48"),
        ("tq1_0", 96, True, "packs 256 values"),
    ],
)
def test_a_type_that_cannot_be_written_is_refused(
    name: str, hidden: int, in_gguf: bool, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        writable_type(name, hidden=hidden, gguf=in_gguf)


@pytest.mark.parametrize("name", FLOATS)
def test_safetensors_heads_can_be_floats(name: str) -> None:
    assert writable_type(name.lower(), hidden=7, gguf=False).name == name


def test_a_number_beyond_the_range_is_refused_not_made_infinite() -> None:
    rows = VALUES.copy()
    rows[4, 1] = 1e6
    info, chunks = stored("F32", rows)
    half = type_named("F16")
    assert half is not None
    with pytest.raises(
        CheckpointError, match=r"output\.weight holds numbers beyond the range of F16"
    ):
        list(retyped(chunks, info, half))
    brain = type_named("BF16")
    assert brain is not None
    assert b"".join(retyped(chunks, info, brain))


def test_rows_that_gguf_cannot_decode_are_refused() -> None:
    info = TensorInfo("lm_head.weight", "F8_E4M3", (1, H), Path("m.safetensors"), 0, H)
    half = type_named("F16")
    assert half is not None
    with pytest.raises(CheckpointError, match="F8_E4M3, which cannot be written in another type"):
        list(retyped([bytes(H)], info, half))
