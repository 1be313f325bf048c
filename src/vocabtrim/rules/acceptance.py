"""Keep the K ids that win the most tokens, by a trace of what would be accepted.

A frequent id that the drafter never gets right is worth nothing in its head, and
one accepted early in a draft is worth what follows it too. From a trace of the
target's text: at every start and depth that a draft reaches, would the target's
token be accepted if it were inside, with the K most frequent ids for rivals?
Its worth there is the tokens that the draft would lose without it. A trace sees
few ids, so the worth of an occurrence is smoothed towards that of ids in
about as many documents, and frequency says how often an id occurs: what an id
wins is frequency × worth. Without a trace every occurrence is worth the same,
which leaves the order by frequency.

No source: FR-Spec (2502.14856) and VocabTrim (2506.22694) count occurrences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.trace import Trace
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.replay.replay import would_accept
from vocabtrim.rules.base import Evidence, rows_asked, take


@dataclass(frozen=True)
class Acceptance:
    """The K ids that win the most tokens, by a trace (select --trace).

    Args:
        k: Rows asked for, rounded up to a multiple of 64.
        exact: Take exactly `k` rows.
        gamma: Draft length that is planned; the trace's longest at most.
        strength: Occurrences in the trace at which an id's own worth counts as
            much as that of ids in about as many documents.
    """

    by_trace: ClassVar[bool] = True

    k: int
    exact: bool = False
    gamma: int = 4
    strength: float = 8.0

    def select(self, evidence: Evidence, must_keep: NDArray[np.int64]) -> DraftVocab:
        """Choose K ids by tokens won, kept ids inside K."""
        rows = rows_asked(self.k, evidence.vocab_size, exact=self.exact)
        order = evidence.ranking(must_keep)
        if evidence.trace is not None:
            rivals = np.zeros(evidence.trace.vocab_size, dtype=np.bool_)
            rivals[order[:rows]] = True
            won = self._won(evidence, evidence.trace, rivals)
            if evidence.trace.head_ids is not None:
                # smoothing gives ids something that have no row in the traced head
                without = np.setdiff1d(np.arange(evidence.vocab_size), evidence.trace.head_ids)
                won[without] = -1.0
            others = order[must_keep.size :]
            # a stable sort leaves equals as `ranking` has them
            by_worth = np.argsort(-won[others], kind="stable")
            order = np.concatenate([must_keep, others[by_worth]])
        return take(order, rows, must_keep, evidence)

    def _won(
        self, evidence: Evidence, trace: Trace, rivals: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return [V] the tokens that each id wins."""
        V = evidence.vocab_size
        ids, worth = worths(trace, rivals, min(self.gamma, trace.max_gamma))
        seen = np.bincount(trace.wanted[:, 0], minlength=trace.vocab_size)[:V]
        total = np.bincount(ids, weights=worth, minlength=trace.vocab_size)[:V]
        everywhere = total.sum() / seen.sum() if seen.any() else 0.0
        # ids in about as many documents: bands that double
        band = np.frexp(evidence.counts.documents)[1]
        of_band = self._smoothed(np.bincount(band, total), np.bincount(band, seen), everywhere)
        worth_of_one = self._smoothed(total, seen, of_band[band])
        won: NDArray[np.float64] = (evidence.frequency + seen) * worth_of_one
        return won

    def _smoothed(
        self,
        total: NDArray[Any],
        seen: NDArray[Any],
        expected: NDArray[np.float64] | float,
    ) -> NDArray[np.float64]:
        result: NDArray[np.float64] = (total + self.strength * expected) / (seen + self.strength)
        return result


def worths(
    trace: Trace, rivals: NDArray[np.bool_], gamma: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return what each reached token of the text is worth.

    Args:
        trace: Of the drafter.
        rivals: [V] bool, ids that are drafted where they rank above the token.
        gamma: Draft length.

    Returns:
        [n] ids and [n] tokens that the draft would lose without them, a start
        and depth each.
    """
    accepted = would_accept(trace, rivals, gamma)
    reached = np.cumprod(accepted, axis=1)
    left = reached.sum(axis=1)[:, None] - np.arange(gamma)
    start, depth = np.nonzero(reached)
    rows, depths = (start, depth) if trace.own_depths else (start + depth, np.zeros_like(depth))
    return trace.wanted[rows, depths].astype(np.int64), left[start, depth].astype(np.float64)


PLUGIN = Acceptance
