"""The smallest K that gives up next to nothing, from text alone.

A drafter that is always right inside its vocabulary emits the ceiling of block
efficiency (`core/ceiling.py`) on text that was held out. With all rows that is
γ + 1 but for the ends of texts; with K rows it is less. The smallest K that stays
within `LOSS` of all rows is chosen: vocabularies are nested, so the ceiling never
falls with K, and K is found by halving.

A real drafter is wrong more often, and mostly where tokens are rare, so it loses
less than that. Which K is *fastest* is another question, which takes a trace or a
measurement (`pipeline/plan.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.ceiling import ceiling
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.errors import VocabError
from vocabtrim.core.vocab import ROW_MULTIPLE, DraftVocab
from vocabtrim.pipeline.fitting.sample import HeldOutTraffic
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.rules.base import Evidence, rows_asked

LOSS = 0.03
SHOWN = (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
WORTH_TRIMMING = 0.9
"""Share of the rows above which what is left to save is next to nothing."""


@dataclass(frozen=True)
class SizeChoice:
    """Why K is what it is.

    Args:
        K: Rows.
        gamma: Draft length that it was chosen for.
        reason: In a sentence.
        trims: Whether fewer rows are worth having.
        ceilings: K to the ceiling on text held out; all rows last. Empty where
            something else chose.
        held_out: Documents that it was measured on.
    """

    K: int
    gamma: int
    reason: str
    trims: bool = True
    ceilings: tuple[tuple[int, float], ...] = ()
    held_out: int = 0


def entering(evidence: Evidence, held: DraftVocab) -> NDArray[np.int64]:
    """Return the ids that the head has rows for, in the order in which they enter.

    Args:
        evidence: What is known about ids.
        held: Ids of the head.
    """
    # a head may be padded beyond the ids that there are
    has_row = np.zeros(max(evidence.vocab_size, held.vocab_size), dtype=np.bool_)
    has_row[held.ids] = True
    order = evidence.ranking(KeepIds().of(evidence.counts))
    return order[has_row[order]]


def kept(counts: TokenCounts, held: DraftVocab) -> NDArray[np.int64]:
    """Return the ids that must be kept and that the head has rows for, ascending int64."""
    return np.intersect1d(KeepIds().of(counts), held.ids)


def asked_for(top_k: int, evidence: Evidence, held: DraftVocab, gamma: int) -> SizeChoice:
    """Take the rows that somebody asks for.

    Args:
        top_k: K, rounded up to a multiple of 64.
        evidence: What is known about ids.
        held: Ids of the head.
        gamma: Draft length.

    Raises:
        VocabError: The head has fewer, or they have no room for what must be kept.
    """
    rows = rows_asked(top_k, entering(evidence, held).size, exact=False)
    least = kept(evidence.counts, held).size
    if rows < least:
        raise VocabError(
            f"K = {rows} is smaller than the {least} ids that must be kept; ask for {least} or more"
        )
    return SizeChoice(rows, gamma, "as asked for")


def smallest(traffic: HeldOutTraffic, held: DraftVocab, gamma: int) -> SizeChoice:
    """Choose the smallest K whose ceiling is within `LOSS` of all rows.

    Args:
        traffic: Text held out, and counts of the rest.
        held: Ids of the head.
        gamma: Draft length.

    Returns:
        K as a multiple of 64, or all rows.
    """
    order = entering(Evidence(traffic.others), held)
    least = kept(traffic.others, held).size

    def tau(rows: int) -> float:
        vocab = DraftVocab.from_ids(order[:rows], traffic.others.vocab_size)
        (found,) = ceiling(traffic.generations, vocab, [gamma])
        return found.block_efficiency or 1.0

    full = tau(order.size)
    wanted = (1 - LOSS) * full
    rows = _first(lambda K: tau(K) >= wanted, max(least, 1), order.size)
    sizes = sorted({size for size in (*SHOWN, rows) if least <= size < order.size})
    trims = rows <= WORTH_TRIMMING * order.size
    reason = (
        f"the smallest K at which a drafter that is always right inside its vocabulary keeps "
        f"{1 - LOSS:.0%} of its block efficiency at γ = {gamma} on "
        f"{traffic.n_documents:,} documents that were held out: {tau(rows):.2f} of {full:.2f}"
    )
    if not trims:
        reason = (
            f"to keep {1 - LOSS:.0%} of the block efficiency that is possible at γ = {gamma}, it "
            f"takes {rows:,} of {order.size:,} rows on the {traffic.n_documents:,} documents "
            "that were held out; more traffic may bring that down"
        )
    return SizeChoice(
        rows,
        gamma,
        reason,
        trims,
        (*((size, tau(size)) for size in sizes), (order.size, full)),
        traffic.n_documents,
    )


def _first(holds: Callable[[int], bool], least: int, most: int) -> int:
    """Return the first multiple of 64 from `least` on that holds, or `most`."""
    low, high = -(-least // ROW_MULTIPLE), -(-most // ROW_MULTIPLE)
    while low < high:
        middle = (low + high) // 2
        if holds(min(middle * ROW_MULTIPLE, most)):
            high = middle
        else:
            low = middle + 1
    return min(low * ROW_MULTIPLE, most)
