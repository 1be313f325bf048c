"""A map from rows to ids as it is stored, and whether it holds what its kind holds.

Offsets in safetensors, ids in GGUF and in lists: the kind decides, and nothing in
a file says when somebody mixed them up. Where the numbers prove it, they are
believed; where they prove nothing, the kind is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEW = 8
"""Entries below which a misfit may be an accident."""


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A map from rows to ids, as stored.

    Args:
        name: Of the tensor, or what the list is called.
        dtype: Its type, as its container writes it.
        shape: Its dimensions.
        numbers: [n] int64; None where it is no vector of whole numbers.
        absolute: Whether its kind holds ids; a `d2t` of safetensors holds offsets.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    numbers: NDArray[np.int64] | None
    absolute: bool

    @property
    def ids(self) -> NDArray[np.int64] | None:
        """The ids by the convention of its kind, in the order of the rows."""
        if self.numbers is None or self.absolute:
            return self.numbers
        return self.numbers + np.arange(self.numbers.size)

    def holds_ids(self, mask: NDArray[np.bool_] | None, vocab_size: int | None) -> bool:
        """Return whether a map of offsets is proven to hold ids.

        Offsets repeat wherever two kept ids are neighbours, so numbers without a
        repeat that cannot be offsets are ids.

        Args:
            mask: [V] the kept ids, where a mask says them; then it decides.
            vocab_size: V.
        """
        numbers, ids = self.numbers, self.ids
        if self.absolute or numbers is None or ids is None or vocab_size is None:
            return False
        if np.unique(numbers).size < numbers.size or numbers.min() < 0:
            return False
        if numbers.max() >= vocab_size:
            return False
        if mask is not None:
            marked = np.flatnonzero(mask)
            return not _same(ids, marked) and _same(numbers, marked)
        impossible = ids.max() >= vocab_size or np.unique(ids).size < ids.size
        return bool(impossible) and numbers.size >= FEW


def _same(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return bool(np.array_equal(np.sort(one), other))
