"""A quantised head: parts that run over the ids beside its values, each its own way.

Scales, zero points and a remembered shape follow the rows; what was cut in one of
them and not in the others scales rows by what belongs to other ids. How each format
stores them was read in vLLM's loaders (`compressed_tensors*.py`, `auto_gptq.py`,
`auto_awq.py`, `vocab_parallel_embedding.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from vocabtrim.pipeline.checks.base import ALL, VLLM, Check, Said, Severity, refuses, said
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.tensor_info import TensorInfo

BLOCK = 128
"""Rows that share a scale where an FP8 head is scaled by blocks."""


def parts(subject: Subject) -> Iterator[Said]:
    """A quantised head whose parts were not cut alike."""
    rows = subject.rows
    if rows is None:
        return
    for name, info in subject.head_parts.items():
        axis, allowed = _follows(name, info, rows)
        if len(info.shape) > axis and info.shape[axis] not in allowed:
            yield said(
                f"{info.name} has {info.shape[axis]:,} entries for a head of {rows:,} rows",
                refuses(ALL, "finds it of a wrong shape, or scales rows by what belongs to others"),
            )
    shape = subject.head_parts.get("weight_shape")
    weights = subject.weights
    if shape is not None and weights is not None and shape.dtype in ("I64", "I32"):
        remembered = weights.array(shape.name).reshape(-1)
        if remembered.size and int(remembered[0]) != rows:
            yield said(
                f"{shape.name} remembers {int(remembered[0]):,} rows, and there are {rows:,}",
                refuses(VLLM, "unpacks it to a shape that its head has not"),
            )


def packed_rows(subject: Subject) -> Iterator[Said]:
    """GPTQ and AWQ heads whose columns do not fill whole blocks of 64."""
    packed = subject.head_parts.keys() & {"qweight", "qzeros"}
    if packed and subject.rows is not None and subject.rows % 64:
        yield said(
            f"its head is packed along {subject.rows:,} ids, no multiple of 64",
            refuses(VLLM, "pads heads to 64 along the other axis only"),
        )


def _follows(name: str, info: TensorInfo, rows: int) -> tuple[int, set[int]]:
    """Return along which axis a part of a head runs over ids, and how long it may be there.

    Parts that do not run over ids may be of any length: what is returned allows theirs.
    """
    if name in ("weight", "weight_packed"):
        return 0, {rows}
    if name in ("weight_scale", "weight_scale_inv"):
        # for each row, for blocks of rows, or one for all
        return 0, {rows, -(-rows // BLOCK), 1}
    if name == "weight_zero_point":
        # packed along the ids, four or eight to an element, or one for all
        return 0, {rows, -(-rows // 4), -(-rows // 8), 1}
    if name in ("scales", "qzeros", "qweight"):
        return 1, {rows, rows // 4, rows // 8}
    return 0, {info.shape[0]} if info.shape else set()


_WEIGHTS = frozenset({Form.CHECKPOINT})
_FAULT = Severity.FAULT

PLUGIN = (
    Check("head-parts", _FAULT, "scales and shapes of a quantised head", _WEIGHTS, parts),
    Check("head-packed", _FAULT, "K of a head packed along ids", _WEIGHTS, packed_rows),
)
