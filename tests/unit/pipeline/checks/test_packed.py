"""Quantised heads: every part that runs over the ids, cut or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import K, V, specforge
from tests.tiny import edit
from vocabtrim.pipeline.checks import heads, packed
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path) -> Subject:
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path))


def stored(directory: Path, **parts: np.ndarray) -> Subject:
    added = {f"lm_head.{name}": array for name, array in parts.items()}
    return looked(edit(specforge(directory), drop=["lm_head.weight"], add=added))


@pytest.mark.parametrize(
    ("shapes", "faults"),
    [
        ({"weight_scale": (K, 1)}, 0),
        ({"weight_scale": (1,)}, 0),
        ({"weight_scale": (V, 1)}, 1),
        ({"weight_shape": (K, 32)}, 0),
        ({"weight_shape": (V, 32)}, 1),
        ({"weight_scale": (V, 1), "weight_shape": (V, 32)}, 2),
    ],
)
def test_parts_of_a_quantised_head(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], faults: int
) -> None:
    added = {"lm_head.weight_packed": np.ones((K, 4), np.int32)}
    for name, shape in shapes.items():
        stored = np.array(shape) if name == "weight_shape" else np.ones(shape, np.float32)
        added[f"lm_head.{name}"] = stored
    path = edit(specforge(tmp_path / "d"), drop=["lm_head.weight"], add=added)
    assert len(list(packed.parts(looked(path)))) == faults


def ints(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int32)


@pytest.mark.parametrize(
    ("rows", "columns", "fits"),
    [(K, K, True), (K // 8, K, True), (V, K, False), (V // 8, K, False)],
)
def test_zero_points_are_packed_along_the_ids_or_not(
    tmp_path: Path, rows: int, columns: int, *, fits: bool
) -> None:
    subject = stored(tmp_path, weight_packed=ints(columns, 4), weight_zero_point=ints(rows, 2))
    assert (not list(packed.parts(subject))) == fits


@pytest.mark.parametrize(
    ("qweight", "qzeros", "fits"),
    [
        ((4, K), (2, K // 8), True),  # GPTQ
        ((32, K // 8), (2, K // 8), True),  # AWQ
        ((4, V), (2, K // 8), False),
        ((4, K), (2, V // 8), False),
    ],
)
def test_columns_of_gptq_and_awq(
    tmp_path: Path, qweight: tuple[int, int], qzeros: tuple[int, int], *, fits: bool
) -> None:
    subject = stored(
        tmp_path, qweight=ints(*qweight), qzeros=ints(*qzeros), scales=np.ones((2, K), np.float32)
    )
    assert (not list(packed.parts(subject))) == fits


def test_scales_of_blocks_are_fewer_than_rows(tmp_path: Path) -> None:
    scales = np.ones((-(-K // 128), 1), np.float32)
    subject = stored(tmp_path, weight=np.ones((K, 32), np.uint8), weight_scale_inv=scales)
    assert not list(packed.parts(subject))


def test_a_head_of_two_values_a_byte_is_as_wide_as_it_should_be(tmp_path: Path) -> None:
    # ModelOpt's NVFP4
    half = stored(tmp_path, weight=np.ones((K, 16), np.uint8))
    assert not list(heads.width(half))
