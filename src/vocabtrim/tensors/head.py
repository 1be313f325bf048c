"""Which tensor holds vocabulary rows, and taking some of them.

A family states facts (`HeadTensor`); how rows of a packed layout are cut out is
the packing's business (`packing/`, one file each). Nothing here computes with
weights: a trimmed row is a copy of the bytes of the full one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.registry import Registry
from vocabtrim.tensors.checkpoint import Checkpoint

PACKINGS = Registry("vocabtrim.tensors.packing", "packing of weights")


@dataclass(frozen=True)
class HeadTensor:
    """A tensor one of whose axes runs over the vocabulary.

    Args:
        name: Its name in the checkpoint that holds it.
        row_axis: The axis that runs over ids.
        packing: How its values are laid out; the name of a packing.
        role: What it is to the head: "weight" or "bias".
    """

    name: str
    row_axis: int = 0
    packing: str = "plain"
    role: str = "weight"


class Packing(Protocol):
    """How rows are taken from one layout."""

    def select(
        self, checkpoint: Checkpoint, head: HeadTensor, rows: NDArray[np.int64]
    ) -> Iterator[memoryview]:
        """Yield the bytes of `rows` [K], in their order, in small chunks."""
        ...


def select_rows(
    checkpoint: Checkpoint, head: HeadTensor, rows: NDArray[np.int64]
) -> Iterator[memoryview]:
    """Yield the bytes of some rows of a head, in the order of `rows`.

    Args:
        checkpoint: Holds the tensor.
        head: Names it.
        rows: [K] int64, each below its number of rows.

    Returns:
        Chunks of at most `CHUNK_BYTES` (or one row, where that is more).

    Raises:
        CheckpointError: A row does not exist, or the packing cannot do it.
        PluginError: No packing of that name is known.
    """
    total = checkpoint.tensor(head.name).shape[head.row_axis]
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < total:
        raise CheckpointError(
            f"{head.name} has {total} rows, but rows {rows.min()} to {rows.max()} were asked for",
            path=checkpoint.path,
        )
    packing: Packing = PACKINGS.load(head.packing)
    return packing.select(checkpoint, head, rows)
