"""Plain tensors: a row is a range of bytes.

Holds for every dtype whose row ends on a byte and whose scales, if it has any,
belong to the whole tensor. Rows that follow one another are passed on as a view
of the file; scattered ones are gathered, a few megabytes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import CHUNK_BYTES, Checkpoint
from vocabtrim.tensors.head import HeadTensor


@dataclass(frozen=True)
class Plain:
    """Takes rows as they lie in the file."""

    def select(
        self, checkpoint: Checkpoint, head: HeadTensor, rows: NDArray[np.int64]
    ) -> Iterator[memoryview]:
        """Yield the bytes of `rows` [K], in their order, in small chunks.

        Raises:
            CheckpointError: The vocabulary is not the first axis.
        """
        if head.row_axis != 0:
            raise CheckpointError(
                f"plain rows of {head.name} lie along axis 0, not {head.row_axis}",
                path=checkpoint.path,
            )
        matrix = checkpoint.rows(head.name)
        step = max(CHUNK_BYTES // max(matrix.shape[1], 1), 1)
        for start in range(0, rows.size, step):
            yield _gather(matrix, rows[start : start + step])


def _gather(matrix: NDArray[np.uint8], rows: NDArray[np.int64]) -> memoryview:
    if (np.diff(rows) == 1).all():
        return matrix[rows[0] : rows[-1] + 1].reshape(-1).data
    return matrix[rows].reshape(-1).data


PLUGIN = Plain()
