"""Maps of a reduced head, as tensors whose names say what they hold.

`d2t` [K] is offsets by convention, except in GGUF; Medusa's `token_map` and
TensorRT-Edge-LLM's `vocab_map` hold absolute ids; `t2d` [V] marks the ids with
true. Where a `t2d` lies beside a `d2t`, the two must name the same ids, and it
decides between offsets and ids: that is proof, the convention is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import VocabError
from vocabtrim.tensors.id_vectors import FoundIds, Reading, read_list, read_vector

ABSOLUTE = ("token_map", "vocab_map")

AGAINST_CONVENTION = "d2t holds absolute ids, against its convention; the t2d beside it proves it"


@dataclass(frozen=True, eq=False)
class FoundMap:
    """Ids that named tensors hold.

    Args:
        ids: [K] int64 absolute ids, unique, in the order of the head's rows.
        what: The tensor, and what was read from it.
        notes: What is odd, one sentence each.
        vocab_size: V, where a `t2d` says it.
    """

    ids: NDArray[np.int64]
    what: str
    notes: tuple[str, ...] = ()
    vocab_size: int | None = None


def is_map(name: str) -> bool:
    """Whether a tensor of this name is a map, with or without a module before it."""
    return _last(name) in ("d2t", "t2d", *ABSOLUTE)


def read_maps(
    tensors: Mapping[str, NDArray[Any]], vocab_size: int | None, *, reading: Reading | None = None
) -> FoundMap:
    """Read the maps of one head.

    Args:
        tensors: Arrays by name.
        vocab_size: V, where known; that of a `t2d` comes first.
        reading: What a `d2t` holds, where that is known.

    Raises:
        VocabError: There is no map, there are several, or they contradict.
    """
    by_name = {_last(name): tensor for name, tensor in tensors.items() if is_map(name)}
    if len(by_name) < len(tensors):
        raise VocabError(f"it has several maps: {', '.join(sorted(tensors))}")
    mask = by_name.pop("t2d", None)
    selected = None if mask is None else read_mask(mask)
    size = None if mask is None else int(mask.size)
    if "d2t" in by_name:
        found = _of_d2t(by_name["d2t"], selected, size or vocab_size, reading)
        what = "offsets" if found.reading == "offsets" else "absolute ids"
        return FoundMap(found.ids, f"d2t ({what})", found.notes, size)
    if by_name:
        name, tensor = next(iter(by_name.items()))
        found = read_list(tensor, vocab_size, reading=reading)
        return FoundMap(found.ids, f"{name} (absolute ids)", found.notes)
    if selected is None:
        raise VocabError("it has no map of ids (d2t, t2d, token_map): its head is not reduced")
    return FoundMap(selected, "t2d", (), size)


def read_mask(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Return the ids that a `t2d` marks, ascending.

    Raises:
        VocabError: It marks none, or is no mask.
    """
    if mask.ndim != 1 or mask.dtype.kind not in "biu" or (mask > 1).any() or not mask.any():
        raise VocabError(f"t2d marks ids with true, found shape {list(mask.shape)} of {mask.dtype}")
    return np.flatnonzero(mask).astype(np.int64)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _of_d2t(
    d2t: NDArray[Any],
    selected: NDArray[np.int64] | None,
    vocab_size: int | None,
    reading: Reading | None,
) -> FoundIds:
    if selected is None:
        return read_vector(d2t, vocab_size, reading=reading or "offsets")
    readings: tuple[Reading, ...] = ("offsets", "ids") if reading is None else (reading,)
    for one in readings:
        found = possible(d2t, vocab_size, one)
        if found is not None and np.array_equal(np.sort(found.ids), selected):
            odd = (AGAINST_CONVENTION,) if one == "ids" and reading is None else ()
            return FoundIds(found.ids, one, (*found.notes, *odd))
    found = read_vector(d2t, vocab_size, reading=readings[0])
    raise VocabError(
        f"d2t leads to {found.ids.size:,} ids and t2d marks {selected.size:,}, "
        "and they are not the same"
    )


def possible(vector: NDArray[Any], vocab_size: int | None, reading: Reading) -> FoundIds | None:
    """Return a vector read as asked, or None where it cannot be that."""
    try:
        return read_vector(vector, vocab_size, reading=reading)
    except VocabError:
        return None
