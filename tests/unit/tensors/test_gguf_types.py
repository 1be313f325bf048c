"""Sizes of rows, against the package that defines them."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_types import stored_type, type_named, type_number, type_numbered


@pytest.mark.parametrize("kind", list(gguf.GGMLQuantizationType), ids=lambda kind: kind.name)
def test_a_row_takes_the_bytes_that_gguf_says(kind: gguf.GGMLQuantizationType) -> None:
    ours = type_numbered(int(kind))
    assert ours is not None
    assert ours == type_named(kind.name)
    assert type_number(ours.name) == int(kind)
    rows, row_bytes = gguf.quants.quant_shape_to_byte_shape((3, 2 * ours.block), kind)
    assert ours.bytes_of((3, 2 * ours.block)) == rows * row_bytes
    assert ours.fits(2 * ours.block)
    assert ours.block == 1 or not ours.fits(2 * ours.block - 1)


def test_what_gguf_does_not_have_is_no_type(tmp_path: Path) -> None:
    assert type_numbered(31) is None, "Q4_0_4_4 interleaves rows and was withdrawn"
    assert type_named("F8_E4M3") is None
    with pytest.raises(CheckpointError, match=r"lm_head is F8_E4M3, which GGUF cannot hold"):
        stored_type("F8_E4M3", tensor="lm_head", path=tmp_path)
