"""Some rows of the head beside all rows of the target's, by cosine.

A head that was sliced from the target's has its rows, bit by bit or rounded; one
that was trained from there is still nearest to them. So a few rows, spread over
the head, are compared with all rows of the target's head (cosine, less the mean
row that all have in common). If they are nearest to the rows of the ids that the
map names, the map is right. If they clearly belong to other rows, it is not. A
head that resembles nothing, because it was trained from random weights or in
another space, says nothing.

The target's head is read once, in pieces of some megabytes, in whatever type of
safetensors or GGUF that can be read as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vocabtrim.pipeline.checks.subject import Subject
from vocabtrim.pipeline.checks.values import row_values, rows_read, sampled
from vocabtrim.tensors.tensor_info import TensorInfo

LOOKED_AT = 64
MEAN_OF = 1024
PIECE_BYTES = 16 << 20

FEWEST = 8
"""Rows below which nothing is concluded."""

RIGHT, WRONG = 0.9, 0.5
"""Share of rows at their place from which a map is right, and below which it is not."""

EQUAL = 1e-3
"""Cosines that differ by less are of the same row: targets hold some rows twice."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Rows that were looked at, and where in the target's head they belong.

    Args:
        rows: [n] int64, which rows of the drafter's head.
        nearest: [n] int64, the id whose row in the target's head is nearest.
        cosine: [n] how near.
        stated: [n] int64, the id that the map names.
        stated_cosine: [n] how near that one's is.
        chance: Cosine that rows of no relation reach.
    """

    rows: NDArray[np.int64]
    nearest: NDArray[np.int64]
    cosine: NDArray[np.float32]
    stated: NDArray[np.int64]
    stated_cosine: NDArray[np.float32]
    chance: float

    @property
    def related(self) -> bool:
        """Whether the two heads resemble each other at all."""
        return self.rows.size >= FEWEST and float(np.median(self.cosine)) > self.chance

    @property
    def at_place(self) -> NDArray[np.bool_]:
        """[n] whether a row is nearest to that of the id that it stands for."""
        at_place: NDArray[np.bool_] = (self.nearest == self.stated) | (
            self.cosine - self.stated_cosine < EQUAL
        )
        return at_place


@lru_cache(maxsize=1)
@np.errstate(all="ignore")
def compare(subject: Subject) -> Compared | None:
    """Compare some rows with the target's head; None where they cannot be compared."""
    target, head = subject.target, subject.head
    if target is None or head is None or not subject.reduced:
        return None
    stated = np.arange(head.shape[0]) if subject.ids is None else subject.ids
    matrix = target.head
    chosen = sampled(subject, LOOKED_AT)
    if matrix is None or chosen is None or matrix.shape[1] != head.shape[1]:
        return None
    rows, values = chosen
    inside = (rows < stated.size) & np.isfinite(values).all(axis=1)
    rows, values = rows[inside], values[inside]
    mine = stated[rows]
    within = (mine >= 0) & (mine < matrix.shape[0])
    rows, values, mine = rows[within], values[within], mine[within]
    if not rows.size:
        return None
    return _nearest(matrix, rows, values, mine)


def _nearest(
    matrix: TensorInfo,
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
    mine: NDArray[np.int64],
) -> Compared | None:
    V, H = matrix.shape
    mean = _rows(matrix, np.unique(np.linspace(0, V - 1, MEAN_OF).astype(np.int64)))
    if mean is None:
        return None
    centre = mean.mean(axis=0)
    ours = _unit(values - centre)
    best, where = np.full(rows.size, -2.0, np.float32), np.zeros(rows.size, np.int64)
    own = np.zeros(rows.size, np.float32)
    step = max(PIECE_BYTES // (4 * H), 1)
    for start in range(0, V, step):
        ids = np.arange(start, min(start + step, V))
        piece = _rows(matrix, ids)
        if piece is None:
            return None
        cosines = ours @ _unit(piece - centre).T
        inside = (mine >= start) & (mine < start + ids.size)
        own[inside] = cosines[inside, mine[inside] - start]
        nearest = cosines.argmax(axis=1)
        found = cosines[np.arange(rows.size), nearest]
        better = found > best
        best[better], where[better] = found[better], nearest[better] + start
    # the largest of V cosines of random directions in H dimensions is near sqrt(2 ln V / H)
    chance = max(0.4, 1.5 * float(np.sqrt(2 * np.log(V) / H)))
    return Compared(rows, where, best, mine, own, min(chance, 0.95))


def rows_fit(subject: Subject) -> bool:
    """Return whether a target is at hand whose rows say that the map is right."""
    compared = compare(subject)
    return compared is not None and compared.related and float(compared.at_place.mean()) >= RIGHT


def _rows(matrix: TensorInfo, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
    return row_values(rows_read(matrix, rows), matrix)


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.nan_to_num(values / np.maximum(lengths, 1e-12))
    return unit
