"""Rows of blocks: copied bytes stand for the values that they stood for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_gguf import H, V, tiny_gguf
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.head import HeadTensor, select_rows
from vocabtrim.tensors.tensor_info import TensorInfo

HEAD = HeadTensor("output.weight", packing="gguf_blocks")
ROWS = np.array([0, 1, 2, 40, 63, 64, 95])
TYPES = [kind for kind in gguf.GGMLQuantizationType if kind.name not in ("Q8_1", "Q8_K")]
"""Types of weights; the two left out are what llama.cpp turns activations into."""


def of_random_blocks(path: Path, kind: gguf.GGMLQuantizationType) -> Path:
    """Write a head of random bytes: for copying rows, any bytes are blocks."""
    block, nbytes = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(int(kind))
    rows = generator.integers(0, 256, (V, H // block * nbytes), dtype=np.uint8)
    writer = gguf.GGUFWriter(path, "eagle3")
    writer.add_tensor("output.weight", rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_slicing_is_dequantising_and_then_slicing(
    tmp_path: Path, kind: gguf.GGMLQuantizationType
) -> None:
    path = of_random_blocks(tmp_path / "d.gguf", kind)
    theirs = np.array(gguf.GGUFReader(path).tensors[0].data).view(np.uint8).reshape(V, -1)
    cut = b"".join(select_rows(open_gguf(path).weights, HEAD, ROWS))
    assert cut == theirs[ROWS].tobytes()
    with np.errstate(all="ignore"), contextlib.suppress(NotImplementedError):
        whole = dequantize(theirs, kind)
        part = dequantize(np.frombuffer(cut, np.uint8).reshape(ROWS.size, -1), kind)
        assert np.array_equal(part, whole[ROWS], equal_nan=True)


@settings(deadline=None, max_examples=25)
@given(rows=st.lists(st.integers(0, V - 1), max_size=V))
def test_any_rows_in_any_order(tmp_path_factory: pytest.TempPathFactory, rows: list[int]) -> None:
    path = tiny_gguf(tmp_path_factory.getbasetemp() / "any.gguf", head="Q4_1")
    weights = open_gguf(path).weights
    wanted = np.array(rows, dtype=np.int64)
    cut = b"".join(select_rows(weights, HEAD, wanted))
    assert cut == weights.rows("output.weight")[wanted].tobytes()


def test_what_is_no_matrix_of_blocks_is_refused(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf")
    with pytest.raises(CheckpointError, match="no matrix of whole blocks"):
        list(
            select_rows(
                open_gguf(path).weights,
                HeadTensor("output_norm.weight", packing="gguf_blocks"),
                ROWS,
            )
        )
    foreign = TensorInfo("output.weight", "F8_E4M3", (V, H), path, 0, V * H)
    weights = Checkpoint(path, MappingProxyType({}), MappingProxyType({foreign.name: foreign}))
    with pytest.raises(CheckpointError, match="F8_E4M3, which GGUF cannot hold"):
        list(select_rows(weights, HEAD, ROWS))
