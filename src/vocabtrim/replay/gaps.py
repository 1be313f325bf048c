"""How near each decision of a replay was to going the other way.

A trace is recorded in other passes than decoding uses, so in float32 its logits
differ from decoding's in the last digits. A draft can come out otherwise only
where the target's token and the drafter's best other id of the vocabulary are
closer than twice the largest such difference. Gaps are lower bounds: where the
rival was not kept, it is taken at the last candidate's logit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.trace import Trace


def gaps(trace: Trace, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how far the target's token is from the best other id of a vocabulary.

    Args:
        trace: Of the drafter.
        inside: [V] bool.

    Returns:
        [N, D] float32, differences of logits, 0 or more; infinite where the
        token is not in the vocabulary, for then nothing can accept it, and
        behind the end of a text. 0 where ids were looked up again (`above`),
        whose logits were not kept.
    """
    others = inside[trace.candidates] & (trace.candidates != trace.wanted[..., None])
    best = np.where(others, trace.scores, -np.inf).max(axis=2)
    # candidates are the best there are: nobody else weighs more than the last of them
    best = np.maximum(best, trace.scores[..., -1])
    result = np.abs(trace.target_score - best)
    for row, depth in trace.above:
        result[row, depth] = 0.0
    decided = trace.ranked & inside[trace.wanted]
    return np.where(decided, result, np.inf).astype(np.float32)
