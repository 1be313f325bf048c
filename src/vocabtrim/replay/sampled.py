"""Sampled decoding from a trace, in expectation.

Where the texts are given, a cycle from a position accepts exactly j drafts with
probability r₁ … r_j (1 − r_{j+1}) (`core/sampled_trace.py`), and how often each
position begins a cycle follows by renewal: from 1, each start hands its
probability on to the starts that can follow it. Nothing is decoded, and what is
left to chance is the texts. Conventions are those of `core/metrics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.trace import TracedText, TraceError
from vocabtrim.replay.replay import Replayed


def expected(trace: SampledTrace, gammas: Sequence[int]) -> dict[int, list[Replayed]]:
    """Return what decoding comes to on average: K to a result for each draft length.

    Args:
        trace: Of sampled texts.
        gammas: Draft lengths, at most the trace's; 0 is decoding alone.

    Raises:
        TraceError: A draft length is out of range.
    """
    if beyond := [gamma for gamma in gammas if not 0 <= gamma <= trace.max_gamma]:
        raise TraceError(
            f"the trace answers for draft lengths 0 to {trace.max_gamma}, asked for {beyond[0]}"
        )
    tokens = np.array([text.starts for text in trace.texts], dtype=np.int64)
    found: dict[int, list[Replayed]] = {size: [] for size in trace.sizes}
    for gamma in gammas:
        accepted, drafted, made = np.zeros((3, len(trace.sizes), len(trace.texts), gamma + 1))
        first = 0
        for index, text in enumerate(trace.texts):
            into = (accepted[:, index], drafted[:, index], made[:, index])
            _walk(trace, text, first, gamma, into)
            first += text.starts
        for place, several in enumerate(found.values()):
            several.append(Replayed(gamma, accepted[place], drafted[place], made[place], tokens))
    return found


def _walk(
    trace: SampledTrace,
    text: TracedText,
    first: int,
    gamma: int,
    into: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Hand the probability of being a start through a text, all sizes at once."""
    accepted, drafted, made = into
    size = int(text.tokens.size)
    begins = np.zeros((size + 1, len(trace.sizes)))
    begins[1] = 1.0
    for emitted in range(1, size):
        left = size - emitted
        asked = min(gamma, text.budget - emitted - 1)
        most = min(asked, left)
        going = begins[emitted].copy()
        made[:, asked] += going
        for depth in range(most):
            at = first + emitted - 1
            chance = (
                trace.accepted[at, depth] if trace.own_depths else trace.accepted[at + depth, 0]
            )
            stopped = going * (1 - chance)
            accepted[:, depth] += stopped
            drafted[:, asked] += stopped
            begins[emitted + depth + 1] += stopped
            going = going * chance
        accepted[:, most] += going
        # an accepted last token is an EOS: nothing behind it was drafted
        drafted[:, most if most == left else asked] += going
        begins[min(emitted + most + 1, size)] += going
