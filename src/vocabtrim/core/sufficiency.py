"""Is the calibration data enough? Answers from the counts alone.

A token of a document has an id that no *other* document has exactly where the
id's document frequency is 1. So the occurrences of all such ids, over all
tokens, are the leave-one-document-out estimate of the share of a new document's
tokens whose id was not seen: Good and Turing's estimate (Good, Biometrika 1953)
with documents in the place of single draws, for words come in bursts.

The same for n of the N documents is exact too, averaged over every choice of
them (`unseen_share_at`), so the curve of the share against the amount of data
needs no second count. It is read beyond N with a parabola in log-log.

A document is what `count` counted as one. Documents that are not independent
(several answers to one prompt, duplicates) make every estimate too good, and
text of another kind than the data is not foreseen by any of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.errors import CalibrationError

FEWEST_TO_EXTRAPOLATE = 9
"""Documents below which a quarter of them is no sample to fit a curve to."""

REPEATS_BEYOND = 20
"""An id that one document has more often than this is likely a loop."""

TOGETHER = 2.0
"""Times that the standard error is above that of ids which come one by one.

A document on a subject of its own brings all the words of it. The counts do not
say which ids came together; over four kinds of text and 50 to 400 documents, a
jackknife over whole documents gave 1.0 to 2.2 times the error of single ids.
"""


@dataclass(frozen=True)
class Unseen:
    """What the data has not shown yet.

    Args:
        share: Share of a new document's tokens whose id is not in the data;
            None where there are fewer than two documents.
        error: Standard error of `share`: twice that of ids which come or do not
            come one by one, for those of a subject come together.
        repeats: The part of `share` that is an id's occurrences beyond the
            20th in its only document: loops, which a cap per document removes.
        doubled: What `share` would be with twice the documents; None where
            there are fewer than nine.
        never_seen: Ids of the tokenizer that the data does not have.
        domains: The same for documents of each domain. There, a token is
            unseen where *all* the data lacks its id, and `never_seen` is of the
            domain's own data.
    """

    share: float | None
    error: float | None
    repeats: float | None
    doubled: float | None
    never_seen: int
    domains: Mapping[str, Unseen] = field(default_factory=dict)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Two standard errors about `share`, inside [0, 1]; None where it is None."""
        if self.share is None or self.error is None:
            return None
        return max(self.share - 2 * self.error, 0.0), min(self.share + 2 * self.error, 1.0)


def unseen(counts: TokenCounts) -> Unseen:
    """Estimate how much of new text has ids that the data lacks."""
    n_documents = counts.n_documents
    sizes = [n_documents - 1, (n_documents - 1) // 2, (n_documents - 1) // 4]
    enough = n_documents >= FEWEST_TO_EXTRAPOLATE
    misses = [_missed(counts, size) for size in (sizes if enough else sizes[: n_documents > 1])]

    def of(part: TokenCounts, domains: Mapping[str, Unseen]) -> Unseen:
        never_seen = part.vocab_size - part.n_distinct
        tokens = part.n_tokens
        if n_documents < 2 or not tokens:
            return Unseen(None, None, None, None, never_seen, domains)
        shares = [float(part.counts @ missed) / tokens for missed in misses]
        single = part.counts[counts.documents == 1].astype(np.float64)
        return Unseen(
            share=shares[0],
            error=TOGETHER * float(np.sqrt(single @ single)) / tokens,
            repeats=float(np.maximum(single - REPEATS_BEYOND, 0).sum()) / tokens,
            doubled=_beyond(sizes, shares, 2 * n_documents) if enough else None,
            never_seen=never_seen,
            domains=domains,
        )

    return of(counts, {name: of(part, {}) for name, part in counts.domains.items()})


def unseen_share_at(counts: TokenCounts, n_documents: int) -> float:
    """Return the unseen share that `n_documents` of the documents would leave.

    For every choice of n of the N documents and every document beside them,
    count the tokens whose id is in none of the n. An id with document frequency
    f is missed by C(N - f, n) of the C(N - 1, n) choices, whichever of its f
    documents stands beside; so the mean over all choices is the sum of
    counts * C(N - f, n) / C(N - 1, n) over all tokens. It is exact however an
    id's occurrences differ between its documents.

    Args:
        counts: Of N documents.
        n_documents: n, from 0 to N - 1; N - 1 is leave-one-document-out.

    Raises:
        CalibrationError: Nothing was counted, or n is not below N.
    """
    if not counts.n_tokens or not 0 <= n_documents < counts.n_documents:
        raise CalibrationError(
            f"the unseen share after {n_documents} documents needs more documents than that; "
            f"the counts are of {counts.n_documents}"
        )
    return float(counts.counts @ _missed(counts, n_documents)) / counts.n_tokens


def _missed(counts: TokenCounts, n_documents: int) -> NDArray[np.float64]:
    """[V] how likely n of the other documents all lack an id that a document has."""
    total = counts.n_documents

    def chance(frequency: int) -> float:
        if frequency + n_documents > total:
            return 0.0
        return math.exp(
            math.lgamma(total - frequency + 1)
            - math.lgamma(total - frequency - n_documents + 1)
            - math.lgamma(total)
            + math.lgamma(total - n_documents)
        )

    frequencies, place = np.unique(counts.documents, return_inverse=True)
    chances = [chance(int(frequency)) if frequency else 0.0 for frequency in frequencies]
    return np.array(chances)[place]


def _beyond(sizes: list[int], shares: list[float], size: int) -> float:
    """Continue a falling curve through three points to `size`, in log-log.

    The logarithm of the share is taken to be a quadratic in the logarithm of
    the size: a power law (Heaps) whose exponent may go on changing as it did.
    """
    if not shares[0]:
        return 0.0
    x, known = math.log(size), [math.log(known) for known in sizes]
    logarithm = 0.0
    for at, share in zip(known, shares, strict=True):
        others = [other for other in known if other != at]
        weight = math.prod((x - other) / (at - other) for other in others)
        logarithm += weight * math.log(share)
    return min(math.exp(logarithm), shares[0])
