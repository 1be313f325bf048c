"""Vocabularies that are the first K ids of one order: the order, and which K.

Greedy traces take any order and any K. A trace of sampled texts knows the order and
the sizes that it was made with, and is asked about no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import VocabError
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.trace import TraceError
from vocabtrim.core.vocab import rounded_rows
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.rules.base import Evidence

SMALLEST = 256
"""Of the sizes that are looked at where none are named."""


def ranked(
    counts: TokenCounts, weights: Mapping[str, float] | None = None
) -> tuple[NDArray[np.int64], int]:
    """Return the order in which `select` takes ids, and how many of them it must keep.

    Raises:
        PluginError: A weight is negative or names no domain of the counts.
    """
    must_keep = KeepIds().of(counts)
    return Evidence(counts, weights=weights or {}).ranking(must_keep), int(must_keep.size)


def order_of_all(ranking: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    """Return a ranking, and behind it the ids that it does not have: a head may be padded.

    Args:
        ranking: Ids, each once.
        vocab_size: V.
    """
    return np.concatenate([ranking, np.setdiff1d(np.arange(vocab_size), ranking)])


def sizes_to_compare(asked: Sequence[int], kept: int, rows: int, *, exact: bool) -> list[int]:
    """Return sizes of vocabularies, ascending, all rows among them.

    Args:
        asked: K, rounded up to a multiple of 64; powers of two where there is none.
        kept: Ids that each must have room for.
        rows: Of the untrimmed head.
        exact: Take `asked` as they are.

    Raises:
        VocabError: A K is smaller than what must be kept.
    """
    if not asked:
        powers = [SMALLEST << shift for shift in range(24) if SMALLEST << shift < rows]
        return [*(size for size in powers if size >= kept), rows]
    sizes = {min(size, rows) if exact else rounded_rows(size, rows) for size in asked}
    if min(sizes) < max(kept, 1):
        raise VocabError(f"K = {min(sizes)} has no room for the {kept} ids that must be kept")
    return sorted(sizes | {rows})


def sizes_known(trace: SampledTrace, asked: Sequence[int], *, exact: bool) -> list[int]:
    """Return the sizes to look at of those that a sampled trace knows, all where none is named.

    Raises:
        TraceError: It does not know one.
    """
    rows = trace.head_rows
    sizes = [min(size, rows) if exact else rounded_rows(size, rows) for size in asked]
    if unknown := sorted(set(sizes) - set(trace.sizes)):
        raise TraceError(
            f"the trace is of sampled texts and knows K = {known_sizes(trace)}, "
            f"not {unknown[0]:,}; trace again with --sizes"
        )
    return sorted(set(sizes)) or list(trace.sizes)


def known_sizes(trace: SampledTrace) -> str:
    """Return the sizes that a sampled trace answers for, for a reader."""
    return ", ".join(f"{size:,}" for size in trace.sizes)


def check_order(trace: SampledTrace, counts: Path | None) -> None:
    """Refuse counts whose order is not that of a sampled trace.

    Raises:
        ArtifactError: The file is not what it should be.
        TokenizerMismatch: Counts and trace belong to different tokenizers.
        TraceError: The order differs.
    """
    if counts is None:
        return
    read, _ = read_counts(counts, tokenizer=trace.tokenizer)
    order = order_of_all(ranked(read)[0], trace.vocab_size)
    if not np.array_equal(order[np.isin(order, trace.order)], trace.order):
        raise TraceError(
            f"{counts} takes ids in another order than the counts that the sampled trace was made "
            "with; give those, or trace again with these"
        )
