"""Some rows of a head as numbers, whatever they are packed in.

Rows are read as bytes from where they lie, so a head of gigabytes costs the rows
that are looked at; a map of the file would count every page around them as ours.
Plain floats and the types of GGUF are read; of other packings nothing is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocabtrim.pipeline.checks.subject import Subject
from vocabtrim.tensors.tensor_info import TensorInfo

MOST_COLUMNS = 1 << 16
"""Wider rows than those of any model are not looked into: a few would fill the memory."""

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
    head = subject.head
    if head is None or not head.shape[0]:
        return None
    if not 0 < head.shape[1] <= MOST_COLUMNS:
        return None
    rows = np.unique(np.linspace(0, head.shape[0] - 1, most).astype(np.int64))
    values = row_values(rows_read(head, rows), head)
    return None if values is None else (rows, values)


def rows_read(info: TensorInfo, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read rows of a matrix: [n, row bytes], neighbours in one go.

    Args:
        info: The matrix.
        rows: [n] which, ascending.
    """
    found = np.zeros((rows.size, info.row_bytes), np.uint8)
    runs = np.split(np.arange(rows.size), np.flatnonzero(np.diff(rows) != 1) + 1)
    with info.file.open("rb") as stream:
        for run in runs:
            stream.seek(info.offset + int(rows[run[0]]) * info.row_bytes)
            stream.readinto(found[run[0] : run[-1] + 1].data)
    return found


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
        # scales may be anything in a damaged file; what is no number is told of its own accord
        with np.errstate(all="ignore"):
            values: NDArray[np.float32] = dequantize(raw, GGMLQuantizationType[info.dtype])
    except NotImplementedError:
        return None
    return values.reshape(raw.shape[0], -1)
