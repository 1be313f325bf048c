"""Keep every id that occurs at least a number of times.

The threshold rule of vocabulary trimmers for whole models (lm-vocab-trimmer
uses 2): K follows from the data, and ids seen once by accident stay out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import VocabError
from vocabtrim.core.vocab import DraftVocab, rounded_rows
from vocabtrim.rules.base import Evidence, take


@dataclass(frozen=True)
class MinCount:
    """Every id with at least `count` occurrences.

    Args:
        count: Occurrences, weights applied; 1 or more.
        exact: Do not round K up to a multiple of 64.
    """

    count: int
    exact: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise VocabError(f"min-count must be 1 or more, found {self.count}")

    def select(self, evidence: Evidence, must_keep: NDArray[np.int64]) -> DraftVocab:
        """Choose the ids at or above the threshold, and the kept ids.

        Raises:
            VocabError: No id is left.
        """
        wanted = evidence.frequency >= self.count
        wanted[must_keep] = True
        rows = int(np.count_nonzero(wanted))
        if rows == 0:
            raise VocabError(f"no id occurs {self.count} times; lower --min-count")
        if not self.exact:
            rows = rounded_rows(rows, evidence.vocab_size)
        return take(evidence.ranking(must_keep), rows, must_keep, evidence)


PLUGIN = MinCount
