"""Evidence from a plain list of counts, for the tests of the rules."""

from __future__ import annotations

import numpy as np

from vocabtrim.core.counts import TokenCounts
from vocabtrim.rules.base import Evidence

NONE = np.array([], dtype=np.int64)


def evidence_of(values: list[int]) -> Evidence:
    vector = np.array(values, dtype=np.int64)
    return Evidence(TokenCounts(vector, (vector > 0).astype(np.int64), 1, "t"))
