"""What is known of a tensor without reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import H, V, in_bfloat16, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.tensor_info import TensorInfo

EMBEDDING = "model.embed_tokens.weight"


def test_bytes_of_a_tensor_as_stored_and_at_another_precision(tmp_path: Path) -> None:
    info = Checkpoint.open(in_bfloat16(tiny_lm(tmp_path / "lm"))).tensors[EMBEDDING]
    assert (info.n_params, info.row_bytes) == (V * H, 2 * H)
    assert (info.bytes_at(None), info.bytes_at(4), info.bytes_at(0.5)) == (
        2 * V * H,
        4 * V * H,
        V * H // 2,
    )


def test_rows_need_whole_bytes() -> None:
    nibbles = TensorInfo("w", "F4", (2, 3), Path("f"), 0, 3)
    with pytest.raises(CheckpointError, match=r"w \(F4, shape \[2, 3\]\) has no rows of whole"):
        _ = nibbles.row_bytes
    assert TensorInfo("w", "F4", (2, 4), Path("f"), 0, 4).row_bytes == 2
    assert TensorInfo("w", "F32", (0, 4), Path("f"), 0, 0).row_bytes == 0
