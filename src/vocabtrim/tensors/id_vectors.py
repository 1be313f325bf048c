"""A bare vector of integers: absolute ids, or the offsets of a `d2t`?

Both lie about in files that do not say which. ModelOpt's `d2t.pt` and
speculators' `d2t-K.npy` hold offsets, id minus position; SGLang's token maps and
`freq_K.pt` tensors hold ids. Taken for the other, each loads without complaint
and drafts nonsense. So a vector is only read as what it provably is:

* a number below 0, or more than two repeats, is no list of ids (FR-Spec's script
  writes up to two ids twice; ascending offsets repeat at every pair of neighbours);
* numbers that, each plus its position, run beyond V or meet are no offsets;
* offsets are int64 everywhere; a narrower or unsigned vector that can be ids is.

Where both readings stand, neither is chosen: the caller has to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import VocabError

Reading = Literal["ids", "offsets"]

MOST_REPEATS = 2
"""FR-Spec appends BOS and EOS (`fr/fr.py`), whether or not they are there already."""


@dataclass(frozen=True, eq=False)
class FoundIds:
    """Ids that a vector holds.

    Args:
        ids: [K] int64 absolute ids, unique, in the order of the vector.
        reading: What the vector was read as.
        notes: What was repaired, or is odd, one sentence each.
    """

    ids: NDArray[np.int64]
    reading: Reading
    notes: tuple[str, ...] = ()


def read_vector(
    vector: NDArray[Any], vocab_size: int | None, *, reading: Reading | None = None
) -> FoundIds:
    """Read a vector as ids or as offsets.

    Args:
        vector: [K] integers.
        vocab_size: V, where known; without it fewer readings can be ruled out.
        reading: What it holds, where that is known.

    Raises:
        VocabError: It is no vector of integers, can be neither, or can be both.
    """
    numbers = integers(vector)
    faults: dict[Reading, str | None] = {
        "ids": _no_ids(numbers, vocab_size),
        "offsets": _no_offsets(numbers, vocab_size),
    }
    if reading is None:
        possible = [name for name, fault in faults.items() if fault is None]
        if not possible:
            raise VocabError(
                f"these {numbers.size:,} numbers are neither ids ({faults['ids']}) "
                f"nor offsets of a d2t ({faults['offsets']})"
            )
        narrow = "ids" in possible and vector.dtype != np.int64
        if len(possible) > 1 and not narrow:
            last = int((numbers + np.arange(numbers.size)).max())
            raise VocabError(
                f"these {numbers.size:,} numbers can be ids (up to {numbers.max()}) as well as "
                f"offsets of a d2t (for ids up to {last}); say which, with --as ids or --as offsets"
            )
        reading = possible[0]
    elif faults[reading] is not None:
        other: Reading = "offsets" if reading == "ids" else "ids"
        hint = "" if faults[other] else f"; they can be {other} (--as {other})"
        raise VocabError(
            f"these {numbers.size:,} numbers are not {reading}: {faults[reading]}{hint}"
        )
    if reading == "ids":
        return without_repeats(numbers)
    notes = () if numbers.any() else (_IDENTITY.format(numbers.size),)
    return FoundIds(numbers + np.arange(numbers.size), "offsets", notes)


def read_list(
    numbers: NDArray[Any], vocab_size: int | None, *, reading: Reading | None = None
) -> FoundIds:
    """Read a plain list: it holds ids, unless the caller says otherwise.

    Every tool that writes lists writes absolute ids.

    Raises:
        VocabError: It cannot be what it should be.
    """
    return read_vector(numbers, vocab_size, reading=reading or "ids")


def integers(vector: NDArray[Any]) -> NDArray[np.int64]:
    """Return a vector as int64.

    Raises:
        VocabError: It is empty, no vector, not of integers, or beyond int64.
    """
    if vector.ndim != 1 or vector.dtype.kind not in "iu":
        raise VocabError(
            f"ids are a vector of integers; found shape {list(vector.shape)} of {vector.dtype}"
        )
    if not vector.size:
        raise VocabError("it holds no id")
    if vector.max() > np.iinfo(np.int64).max:
        raise VocabError(f"{vector.max()} is no id")
    return vector.astype(np.int64)


def without_repeats(ids: NDArray[np.int64]) -> FoundIds:
    """Return ids with each kept where it stands first; a note names those that repeat."""
    distinct, first = np.unique(ids, return_index=True)
    if distinct.size == ids.size:
        return FoundIds(ids, "ids")
    kept = np.sort(first)
    repeated = sorted({int(ids[place]) for place in np.setdiff1d(np.arange(ids.size), kept)})
    shown = ", ".join(map(str, repeated[:5])) + (", …" if len(repeated) > 5 else "")
    note = (
        f"ids {shown} stand more than once and were kept once: {ids.size:,} entries, "
        f"{distinct.size:,} ids (FR-Spec's script appends BOS and EOS to a list that has them)"
    )
    return FoundIds(ids[kept], "ids", (note,))


_IDENTITY = (
    "every offset is 0, so that these are the first {:,} ids: a map that was never filled looks so"
)


def _no_ids(numbers: NDArray[np.int64], vocab_size: int | None) -> str | None:
    """Why the numbers are no ids, or None."""
    if numbers.min() < 0:
        return f"{numbers.min()} is below 0"
    if vocab_size is not None and numbers.max() >= vocab_size:
        return f"{numbers.max()} is not below the {vocab_size} ids there are"
    repeats = numbers.size - np.unique(numbers).size
    if repeats > MOST_REPEATS:
        return f"{repeats:,} of them repeat another"
    return None


def _no_offsets(numbers: NDArray[np.int64], vocab_size: int | None) -> str | None:
    """Why the numbers are no offsets, or None."""
    if numbers.max() > np.iinfo(np.int64).max - numbers.size:
        return f"{numbers.max()} is no offset"
    ids = numbers + np.arange(numbers.size)
    if ids.min() < 0:
        return f"the offset {numbers[ids.argmin()]} at {ids.argmin()} leads to id {ids.min()}"
    if vocab_size is not None and ids.max() >= vocab_size:
        return f"they lead up to id {ids.max()}, and there are {vocab_size}"
    repeats = ids.size - np.unique(ids).size
    if repeats:
        return f"they lead to {repeats:,} ids more than once"
    return None
