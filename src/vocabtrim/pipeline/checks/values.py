"""Some rows of a head as numbers, whatever they are packed in.

Rows are taken as bytes through the map of the file, so a head of gigabytes costs
the rows that are looked at. Plain floats and the types of GGUF are read; of other
packings nothing is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocabtrim.pipeline.checks.subject import Subject
from vocabtrim.tensors.tensor_info import TensorInfo

_FLOATS = {"F32": "<f4", "F16": "<f2"}


def sampled(subject: Subject, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Return some rows of its own head as numbers.

    Args:
        subject: Holds the head.
        most: How many rows.

    Returns:
        Which rows, [n] int64, and their values, [n, H]; None where there is no
        head of plain values.
    """
    head, weights = subject.head, subject.weights
    if head is None or weights is None or not head.shape[0]:
        return None
    rows = np.unique(np.linspace(0, head.shape[0] - 1, most).astype(np.int64))
    values = row_values(weights.rows(head.name)[rows], head)
    return None if values is None else (rows, values)


def row_values(data: NDArray[np.uint8], info: TensorInfo) -> NDArray[np.float32] | None:
    """Return rows of bytes as numbers; None for a type that is not read here.

    Args:
        data: [n, row bytes] of the tensor.
        info: The tensor.
    """
    raw = np.ascontiguousarray(data)
    if info.dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if info.dtype in _FLOATS:
        return raw.view(_FLOATS[info.dtype]).astype(np.float32)
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    if info.dtype not in GGMLQuantizationType.__members__:
        return None
    try:
        values: NDArray[np.float32] = dequantize(raw, GGMLQuantizationType[info.dtype])
    except NotImplementedError:
        return None
    return values.reshape(raw.shape[0], -1)
