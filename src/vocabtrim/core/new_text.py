"""What a draft vocabulary covers of new text, from the counts it was chosen from.

Coverage of the text that ids were chosen on is too high, by 2 to 25 points on
real answers, for an id may be kept only because of the document that it covers.
Here every document is judged by the vocabulary that the *others* would have
given: leave-one-document-out, in closed form.

The counts do not say how an id's occurrences are spread over its documents, and
that decides how many are left without one of them. Spread evenly, f - 1 parts
of f are: that is the estimate, within about 1.5 points from 200 documents on,
and up to 6 too high where answers loop (a cap per document mends it). Heaped
onto as few documents as can be: that is the lower bound. Where every id seen is
kept, the two are one and nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.vocab import DraftVocab

ROUNDING = 1e-9
"""Frequencies that domains weigh are equal only up to rounding."""


@dataclass(frozen=True)
class NewTextCoverage:
    """How much of new text a draft vocabulary is expected to cover.

    Args:
        share: Share of tokens, ids taken to be spread evenly over their
            documents; None where there are fewer than two documents.
        low: The least that it can be, however they are spread.
        domains: The same for new documents of each domain.
    """

    share: float | None
    low: float | None
    domains: Mapping[str, NewTextCoverage] = field(default_factory=dict)


def new_text_coverage(
    counts: TokenCounts,
    vocab: DraftVocab,
    *,
    kept: NDArray[np.int64],
    fill_order: NDArray[np.int64] | None = None,
    frequency: NDArray[np.float64] | None = None,
) -> NewTextCoverage:
    """Estimate what a vocabulary chosen by frequency covers of new text.

    An id stays in where what is left of its frequency is above the last row;
    of that, too, one document takes its part, to the nearest whole occurrence.
    Where it is equal, it counts for `share` by the part of such ids that are
    kept. For `low` the last row stays as it is, and what equals it is out. An id
    of a single document has nothing left, and counts where the fill brings it
    in anyway.

    Args:
        counts: What the vocabulary was chosen from.
        vocab: The vocabulary.
        kept: Ids that are in it whatever their counts; all of them, where it
            was not chosen by counts.
        fill_order: [V] ids in the order in which rows beyond the ids seen are
            filled, ids of a single document among them: a rule's ranking of
            `repeated_only(counts)`. By default ascending.
        frequency: [V] what the ids were ranked by; by default their counts.
    """
    share, low = _left(counts, vocab, kept, fill_order, frequency)

    def of(part: TokenCounts, domains: Mapping[str, NewTextCoverage]) -> NewTextCoverage:
        if counts.n_documents < 2 or not part.n_tokens:
            return NewTextCoverage(None, None, domains)
        tokens = part.n_tokens
        return NewTextCoverage(
            float(part.counts @ share) / tokens, float(part.counts @ low) / tokens, domains
        )

    return of(counts, {name: of(part, {}) for name, part in counts.domains.items()})


def repeated_only(counts: TokenCounts) -> TokenCounts:
    """Return the counts as if ids of a single document had not been seen.

    What a rule makes of them says where such ids stand in the fill, and so
    gives `fill_order`.
    """
    lonely = counts.documents == 1

    def of(part: TokenCounts, domains: Mapping[str, TokenCounts]) -> TokenCounts:
        return TokenCounts(
            np.where(lonely, 0, part.counts),
            np.where(lonely, 0, part.documents),
            part.n_documents,
            part.tokenizer,
            part.special,
            domains,
        )

    return of(counts, {name: of(part, {}) for name, part in counts.domains.items()})


def _left(
    counts: TokenCounts,
    vocab: DraftVocab,
    kept: NDArray[np.int64],
    fill_order: NDArray[np.int64] | None,
    frequency: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two [V] shares of each id's occurrences that the others' vocabulary covers."""
    chosen = vocab.over(counts.vocab_size).t2d
    competes = np.ones(counts.vocab_size, dtype=np.bool_)
    competes[kept] = False
    single = competes & (counts.documents == 1)
    # rows that are free once a document is left out, and with it the ids that it alone has
    rows, seen = (int(np.count_nonzero(competes & one)) for one in (chosen, counts.counts > 0))
    free = rows - seen + int(np.count_nonzero(single)) / max(counts.n_documents, 1)
    if free >= 0:
        order = np.arange(counts.vocab_size) if fill_order is None else fill_order
        filled = np.cumsum((competes & (counts.counts == 0))[order])
        reached = np.empty(counts.vocab_size, dtype=np.bool_)
        reached[order] = filled < free
        share = np.where(single, reached, chosen).astype(np.float64)
        low = share.copy()
    else:
        ranked_by = (counts.counts if frequency is None else frequency).astype(np.float64)
        optional = chosen & competes
        last = float(ranked_by[optional].min()) if optional.any() else 0.0
        # in occurrences of each id: one of a weighted domain counts for more or less than one
        row, row_left = np.full((2, counts.vocab_size), np.inf)
        np.divide(last * counts.counts, ranked_by, out=row, where=ranked_by > 0)
        # a document that is left out takes its part of the last row too; of a low one, none
        fallen = last - np.rint(last / max(counts.n_documents, 1))
        np.divide(fallen * counts.counts, ranked_by, out=row_left, where=ranked_by > 0)
        at_last = competes & np.isclose(ranked_by, last, rtol=ROUNDING, atol=0.0)
        luck = int(np.count_nonzero(at_last & chosen)) / max(int(np.count_nonzero(at_last)), 1)
        share, low = chosen * _evenly(counts, row_left, luck), chosen * _heaped(counts, row)
    share[kept] = low[kept] = chosen[kept]
    return share, low


def _evenly(counts: TokenCounts, row: NDArray[np.float64], luck: float) -> NDArray[np.float64]:
    """[V] 1 where (f - 1) / f of the occurrences are more than `row`, `luck` where as many."""
    left = counts.counts * (1.0 - 1.0 / np.maximum(counts.documents, 1))
    return np.where(np.isclose(left, row, rtol=ROUNDING, atol=0.0), luck, left > row)


def _heaped(counts: TokenCounts, row: NDArray[np.float64]) -> NDArray[np.float64]:
    """[V] least share of occurrences whose document leaves more than `row` others.

    A document with `heap` or more of the c occurrences leaves too few. At most
    j documents can have that many while each of the f has one; the least
    covered is then one occurrence in each of the f - j others.
    """
    total, documents = counts.counts.astype(np.float64), counts.documents.astype(np.float64)
    heap = np.ceil(total - row - ROUNDING * total)
    spare = np.maximum(total - documents, 0.0)
    heaps = np.minimum(documents, np.floor(spare / np.maximum(heap - 1.0, 1e-9)))
    heaps[heap <= 1.0] = documents[heap <= 1.0]
    covered = np.where(heaps > 0, documents - heaps, total)
    return np.divide(covered, total, out=np.zeros_like(total), where=total > 0)
