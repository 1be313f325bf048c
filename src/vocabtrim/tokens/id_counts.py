"""Ids to counts, sparse where they travel and dense where they add up.

`count_ids` is a pure function of ids: how often each occurs, in how many
documents, at most so often in each. What a batch comes to names the ids that
occur and no others, for it goes from process to process. `RunningCounts` adds
batches up in place; the order in which they come does not show in the sums.

How text becomes ids is `counting.py`'s matter; what counts mean, and how they
are stored, is `core/counts.py`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import SpecialIds, TokenCounts

Group = frozenset[str]
"""The domains that a document belongs to; documents of one group are counted together."""

TOTAL = ""
"""The name under which `RunningCounts` holds what all documents come to."""

PAIRS = 1 << 32
"""Pairs of a document and an id that are told apart at a time, as 32-bit numbers."""

PART_IDS = 1 << 16
"""Ids that are sorted at a time: what fits into a processor's cache."""

LONG = 4
"""A document of V / LONG ids or more is cheaper counted in a vector of V than sorted."""


@dataclass(frozen=True, eq=False)
class SparseCounts:
    """Counts of the ids that occur.

    Args:
        ids: [D] int64 ascending, each once.
        counts: [D] int64 occurrences of each, 1 or more.
        documents: [D] int64 documents that have it.
        n_documents: Documents counted, empty ones left out.
    """

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    documents: NDArray[np.int64]
    n_documents: int


@dataclass(frozen=True)
class SparseBatch:
    """What a batch of documents comes to.

    Args:
        groups: Counts of the documents of each group.
        empty: Documents without a token that counts; they are in no count.
        warnings: Sentence to the number of documents that it is about.
    """

    groups: Mapping[Group, SparseCounts]
    empty: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


class RunningCounts:
    """Counts that are being added up, in all and by domain.

    Args:
        vocab_size: V.
        domains: Those that are there even where no document belongs to them.

    Attributes:
        vocab_size: V.
        counts: Domain to [V] int64 occurrences; what all come to under `TOTAL`.
        documents: Domain to [V] int64 document frequencies.
        n_documents: Domain to documents counted.
    """

    def __init__(self, vocab_size: int, domains: Iterable[str] = ()) -> None:
        self.vocab_size = vocab_size
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.documents: dict[str, NDArray[np.int64]] = {}
        self.n_documents: dict[str, int] = {}
        for name in (TOTAL, *domains):
            self._begin(name)

    def add(self, batch: SparseBatch) -> None:
        """Add what a batch came to."""
        for group, part in batch.groups.items():
            for name in (TOTAL, *group):
                if name not in self.counts:
                    self._begin(name)
                self.counts[name][part.ids] += part.counts
                self.documents[name][part.ids] += part.documents
                self.n_documents[name] += part.n_documents

    def total(self, fingerprint: str, special: SpecialIds) -> TokenCounts:
        """Return the sums as counts of a tokenizer."""
        parts = {
            name: TokenCounts(
                self.counts[name],
                self.documents[name],
                self.n_documents[name],
                fingerprint,
                special,
            )
            for name in sorted(self.counts)
            if name != TOTAL
        }
        return TokenCounts(
            self.counts[TOTAL],
            self.documents[TOTAL],
            self.n_documents[TOTAL],
            fingerprint,
            special,
            parts,
        )

    def _begin(self, name: str) -> None:
        self.counts[name] = np.zeros(self.vocab_size, dtype=np.int64)
        self.documents[name] = np.zeros(self.vocab_size, dtype=np.int64)
        self.n_documents[name] = 0


def count_ids(
    ids: NDArray[Any],
    lengths: NDArray[np.int64],
    vocab_size: int,
    *,
    cap_per_document: int | None = None,
) -> SparseCounts:
    """Return occurrences and document frequencies of every id that occurs.

    Args:
        ids: [T] ids of all documents one after the other, each in [0, vocab_size).
        lengths: [n] int64, how many of them belong to each document.
        vocab_size: V.
        cap_per_document: An id counts at most so often in one document.
    """
    counts = np.zeros(vocab_size, dtype=np.int64)
    documents = np.zeros(vocab_size, dtype=np.int64)
    owners, times = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    most = np.iinfo(np.int64).max if cap_per_document is None else cap_per_document
    for some, of_each in _parts(ids, lengths, PAIRS // vocab_size):
        if len(of_each) == 1 and some.size >= vocab_size // LONG:
            occurring = np.bincount(some, minlength=vocab_size)
            counts += np.minimum(occurring, most)
            documents += occurring > 0
        else:
            found = _pairs(some, of_each, vocab_size)
            owners.append(found[0])
            times.append(np.minimum(found[1], most))
    paired = np.concatenate(owners)
    documents += np.bincount(paired, minlength=vocab_size)
    # weights are float64, which holds every sum below 2 ** 53 exactly
    counts += np.bincount(paired, np.concatenate(times), vocab_size).astype(np.int64)
    seen = np.flatnonzero(documents)
    return SparseCounts(seen, counts[seen], documents[seen], int(np.count_nonzero(lengths)))


def _parts(
    ids: NDArray[Any], lengths: NDArray[np.int64], most: int
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Yield ids and lengths of some documents at a time, at most so many."""
    ends = np.cumsum(lengths)
    first = start = 0
    while first < len(lengths):
        within = int(np.searchsorted(ends, start + PART_IDS, side="right"))
        last = min(max(within, first + 1), first + most)
        stop = int(ends[last - 1])
        yield ids[start:stop], lengths[first:last]
        first, start = last, stop


def _pairs(
    ids: NDArray[Any], lengths: NDArray[np.int64], vocab_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the id of each pair of a document and an id, and how often it occurs.

    One number stands for a pair, so that one sort brings equal ones together. It
    leaves every document in its place, and with it the number it starts from.
    """
    begins = np.arange(len(lengths), dtype=np.uint32) * np.uint32(vocab_size)
    base = np.repeat(begins, lengths)
    pairs = base + ids.astype(np.uint32, copy=False)
    pairs.sort()
    new = np.ones(pairs.size, dtype=np.bool_)
    np.not_equal(pairs[1:], pairs[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    pairs -= base
    return pairs[starts].astype(np.int64), np.diff(starts, append=pairs.size)
