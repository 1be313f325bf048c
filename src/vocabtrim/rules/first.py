"""Keep the ids below N: the baseline that needs no data.

BPE numbers its merges in order of frequency in the tokenizer's training text,
so low ids are common ids. Every rule that counts has to beat this one, and on
text of the wrong kind some do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.vocab import DraftVocab
from vocabtrim.rules.base import Evidence, rows_asked, take


@dataclass(frozen=True)
class First:
    """The lowest ids.

    Args:
        k: Rows asked for, rounded up to a multiple of 64.
        exact: Take exactly `k` rows.
    """

    by_counts: ClassVar[bool] = False

    k: int
    exact: bool = False

    def select(self, evidence: Evidence, must_keep: NDArray[np.int64]) -> DraftVocab:
        """Choose the kept ids and, of the others, the lowest, K in all."""
        rows = rows_asked(self.k, evidence.vocab_size, exact=self.exact)
        others = np.setdiff1d(np.arange(evidence.vocab_size), must_keep)
        return take(np.concatenate([must_keep, others]), rows, must_keep, evidence)


PLUGIN = First
