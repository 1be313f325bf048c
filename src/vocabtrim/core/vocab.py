"""The draft vocabulary: which target ids a drafter can propose.

This is the only place that knows `d2t`, `t2d`, offsets and absolute ids; the
rest of the package holds a `DraftVocab` and asks it. Two conventions are in
use and nothing in a file says which (both are plain integer vectors):

* safetensors `d2t` is the **offset** `target_id - draft_id`
  (SafeAILab/EAGLE `eagle/traineagle3/cnets.py`; vLLM `llama_eagle3.py`);
* GGUF `d2t`, SGLang's token map and Medusa's `token_map` are **absolute** ids.

Ids always ascend, so that the rows which a boolean `t2d` selects from a head
are in draft-id order; frequency order with a `t2d` beside it is a silent
permutation. The constructor validates, so an instance is a proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import VocabError

ROW_MULTIPLE = 64
"""Heads are padded to 64 rows by vLLM and tiled by 4 to 16 rows elsewhere."""

MOST_IDS = 1 << 24
"""More ids than any tokenizer has: sizes beyond it come from damaged files, and are not
allocated."""


@dataclass(frozen=True, eq=False)
class DraftVocab:
    """Ascending unique target ids, position = draft id.

    Args:
        ids: [K] integers, ascending, unique, each in [0, vocab_size). Kept as
            a read-only int64 copy.
        vocab_size: V, the number of rows of the target's head.
        tokenizer: Fingerprint of the tokenizer that the ids belong to, or None
            where it is not known (ids read from a drafter's `d2t`).

    Raises:
        VocabError: `ids` is none of this.
    """

    ids: NDArray[np.int64]
    vocab_size: int
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        given = np.asarray(self.ids)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise VocabError(
                "draft vocabulary ids must be a vector of integers, "
                f"found shape {given.shape} of {given.dtype}"
            )
        if given.size == 0:
            raise VocabError("a draft vocabulary needs at least one id")
        _check_size(self.vocab_size)
        ids = given.astype(np.int64)
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.vocab_size:
            raise VocabError(
                f"draft vocabulary ids must lie in [0, {self.vocab_size}), found {low} to {high}"
            )
        steps = np.diff(ids)
        if (steps <= 0).any():
            where = int(np.argmax(steps <= 0))
            raise VocabError(
                "draft vocabulary ids must ascend without duplicates: "
                f"id {ids[where]} at {where} is followed by {ids[where + 1]}"
            )
        ids.setflags(write=False)
        object.__setattr__(self, "ids", ids)

    @property
    def size(self) -> int:
        """K, the number of ids."""
        return int(self.ids.size)

    @property
    def is_full(self) -> bool:
        """Whether every target id can be drafted, so that no map is needed."""
        return self.size == self.vocab_size

    @property
    def d2t(self) -> NDArray[np.int64]:
        """[K] int64 offsets: target id = draft id + d2t[draft id]."""
        return self.ids - np.arange(self.size, dtype=np.int64)

    @property
    def t2d(self) -> NDArray[np.bool_]:
        """[V] bool: whether a target id is in the draft vocabulary."""
        mask = np.zeros(self.vocab_size, dtype=np.bool_)
        mask[self.ids] = True
        return mask

    @classmethod
    def full(cls, vocab_size: int, tokenizer: str | None = None) -> DraftVocab:
        """Return the vocabulary of an untrimmed drafter: every id.

        Raises:
            VocabError: There are more than any tokenizer has.
        """
        _check_size(vocab_size)
        return cls(np.arange(vocab_size, dtype=np.int64), vocab_size, tokenizer)

    @classmethod
    def from_ids(
        cls, ids: NDArray[Any] | list[int], vocab_size: int, tokenizer: str | None = None
    ) -> DraftVocab:
        """Build from absolute ids in any order; duplicates are refused.

        Raises:
            VocabError: An id occurs twice, is out of range, or there is none.
        """
        return cls(np.sort(np.asarray(ids)), vocab_size, tokenizer)

    @classmethod
    def from_d2t(
        cls, d2t: NDArray[Any], vocab_size: int, tokenizer: str | None = None
    ) -> DraftVocab:
        """Build from a safetensors `d2t`: [K] offsets, rows in ascending id order.

        Raises:
            VocabError: The offsets do not give ascending ids below V. An
                unsorted map is refused, never sorted: sorting it here would
                part it from the rows of its head.
        """
        offsets = np.asarray(d2t)
        return cls(offsets + np.arange(offsets.size, dtype=np.int64), vocab_size, tokenizer)

    @classmethod
    def from_t2d(cls, t2d: NDArray[Any], tokenizer: str | None = None) -> DraftVocab:
        """Build from a `t2d` mask: [V] bool.

        Raises:
            VocabError: The mask is empty or not a vector of bool.
        """
        mask = np.asarray(t2d)
        if mask.ndim != 1 or mask.dtype != np.bool_:
            raise VocabError(f"t2d must be [V] bool, found shape {mask.shape} of {mask.dtype}")
        return cls(np.flatnonzero(mask), int(mask.size), tokenizer)

    def rows_in(self, held: DraftVocab) -> NDArray[np.int64]:
        """Return the rows of a head over `held` that carry this vocabulary.

        For an untrimmed head the rows are the ids themselves; for a head that
        is already reduced they are positions in it.

        Args:
            held: What the head holds now, row = draft id.

        Returns:
            [K] int64 ascending rows.

        Raises:
            VocabError: An id asked for has no row in the head, or V differs.
        """
        if held.vocab_size != self.vocab_size:
            raise VocabError(
                f"draft vocabularies over {self.vocab_size} and {held.vocab_size} "
                "target ids cannot be combined"
            )
        rows = np.searchsorted(held.ids, self.ids)
        found = held.ids[np.minimum(rows, held.size - 1)] == self.ids
        if not found.all():
            missing = self.ids[~found]
            raise VocabError(
                f"{missing.size} of {self.size} ids have no row in the head, which holds "
                f"{held.size} (first missing: {missing[0]}); select among its ids"
            )
        return rows.astype(np.int64)

    def over(self, vocab_size: int) -> DraftVocab:
        """Return the same ids over a target padded to `vocab_size` rows.

        One tokenizer comes with different paddings (Qwen2.5: 151,936 rows at
        0.5B, 152,064 at 7B), so V follows the checkpoint, the ids do not.

        Raises:
            VocabError: An id has no row there.
        """
        return DraftVocab(self.ids, vocab_size, self.tokenizer)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DraftVocab):
            return NotImplemented
        return (
            self.vocab_size == other.vocab_size
            and self.tokenizer == other.tokenizer
            and bool(np.array_equal(self.ids, other.ids))
        )

    def __hash__(self) -> int:
        return hash((self.vocab_size, self.tokenizer, self.ids.tobytes()))


def rounded_rows(rows: int, vocab_size: int) -> int:
    """Return `rows` rounded up to a multiple of 64, at most V."""
    return min(-(-rows // ROW_MULTIPLE) * ROW_MULTIPLE, vocab_size)


def _check_size(vocab_size: int) -> None:
    """Refuse a V that no tokenizer has."""
    if vocab_size > MOST_IDS:
        raise VocabError(f"no tokenizer has {vocab_size:,} ids: the file that says so is damaged")
