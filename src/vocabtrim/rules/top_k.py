"""Keep the K most frequent ids: the rule of FR-Spec and VocabTrim.

V_trim = V[top-K(counts, K)] (VocabTrim, arXiv 2506.22694; FR-Spec,
2502.14856). Ties go to the id in more documents, then to the lower id, so the
result does not depend on the order of the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.vocab import DraftVocab
from vocabtrim.rules.base import Evidence, rows_asked, take


@dataclass(frozen=True)
class TopK:
    """The K most frequent ids.

    Args:
        k: Rows asked for, rounded up to a multiple of 64.
        exact: Take exactly `k` rows.
    """

    k: int
    exact: bool = False

    def select(self, evidence: Evidence, must_keep: NDArray[np.int64]) -> DraftVocab:
        """Choose K ids by frequency, kept ids inside K."""
        rows = rows_asked(self.k, evidence.vocab_size, exact=self.exact)
        return take(evidence.ranking(must_keep), rows, must_keep, evidence)


PLUGIN = TopK
