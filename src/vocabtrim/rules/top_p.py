"""Keep the fewest most frequent ids that cover a share of the calibration tokens.

The counterpart of nucleus sampling for a vocabulary: K follows from the data
(named in VocabTrim, arXiv 2506.22694, as an alternative to top-k). Coverage is
of the calibration text itself; on new text it is lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import VocabError
from vocabtrim.core.vocab import DraftVocab, rounded_rows
from vocabtrim.rules.base import Evidence, take


@dataclass(frozen=True)
class TopP:
    """The fewest ids, by frequency, whose share of the tokens reaches `p`.

    Args:
        p: Share in (0, 1] of the calibration tokens, weights applied.
        exact: Do not round K up to a multiple of 64.
    """

    p: float
    exact: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.p <= 1.0:
            raise VocabError(f"top-p must lie in (0, 1], found {self.p}")

    def select(self, evidence: Evidence, must_keep: NDArray[np.int64]) -> DraftVocab:
        """Choose ids by frequency until they cover `p`; kept ids are always in.

        Raises:
            VocabError: Nothing was counted, so no share of it can be covered.
        """
        order = evidence.ranking(must_keep)
        covered = np.cumsum(evidence.frequency[order])
        if covered[-1] == 0:
            raise VocabError("top-p needs counts, and no token was counted")
        reached = int(np.argmax(covered / covered[-1] >= self.p)) + 1
        rows = max(reached, int(must_keep.size))
        if not self.exact:
            rows = rounded_rows(rows, evidence.vocab_size)
        return take(order, rows, must_keep, evidence)


PLUGIN = TopP
