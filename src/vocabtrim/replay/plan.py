"""Which K and which γ: acceptance from a replay, time from measured latencies.

Tokens per second of a point (K, γ) are tokens ÷ seconds of the very cycles that
the replay walked, near the end of a budget the shorter ones too, and with drafts
behind an EOS, which do not count but are made. The gain that matters is over what
would be done otherwise: over autoregressive decoding, and, for trimming, over the
full drafter at its own best γ. A gain within the error of the latencies is none,
nor is one that other prompts of the same kind might not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.latency import Latency
from vocabtrim.core.trace import TraceError
from vocabtrim.replay.replay import Replayed

RESAMPLES = 2000
LEAST_PROMPTS = 4
"""Fewer texts say nothing of others."""


class Advice(Enum):
    """What a plan comes to."""

    TRIM = "trim"
    DO_NOT_TRIM = "do not trim"
    DO_NOT_SPECULATE = "do not speculate"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Point:
    """A vocabulary size and a draft length, and what they come to.

    Args:
        K: Rows of the head.
        gamma: Draft length; 0 is autoregressive decoding.
        block_efficiency: Tokens a cycle.
        tokens_per_second: Of the whole batch.
        speedup: Over autoregressive decoding at the same batch size.
        seconds: [texts] of each text's cycles, times the text's weight.
    """

    K: int
    gamma: int
    block_efficiency: float
    tokens_per_second: float
    speedup: float
    seconds: NDArray[np.float64] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Plan:
    """The surface at one batch size and what to do.

    Args:
        batch: Texts side by side.
        points: All that were asked for, by K and γ.
        best: The fastest of them.
        full: The fastest with all rows.
        advice: What to do.
        margin: Gain below which two points count as equal.
        interval: Of the gain over all rows, 95 % over prompts; None where there
            are too few to tell, or the points are bounds.
    """

    batch: int
    points: tuple[Point, ...]
    best: Point
    full: Point
    advice: Advice
    margin: float
    interval: tuple[float, float] | None

    @property
    def chosen(self) -> Point:
        """What the advice comes to: all rows where trimming does not pay."""
        return self.full if self.advice is Advice.DO_NOT_TRIM else self.best

    @property
    def gain(self) -> float:
        """The best point's tokens per second over the full drafter's."""
        return self.best.tokens_per_second / self.full.tokens_per_second


def surface(
    replayed: Callable[[int], Sequence[Replayed]],
    sizes: Sequence[int],
    latency: Latency,
    weights: NDArray[np.float64] | None = None,
) -> tuple[Point, ...]:
    """Return every point of a grid.

    Args:
        replayed: K to what decoding comes to, a result for each γ.
        sizes: The K of the grid.
        latency: Of the machine.
        weights: [texts], how often each text counts; once without them.
    """
    return tuple(point(size, one, latency, weights) for size in sizes for one in replayed(size))


def point(
    size: int, replayed: Replayed, latency: Latency, weights: NDArray[np.float64] | None = None
) -> Point:
    """Return what one K and γ come to.

    Args:
        size: K.
        replayed: What decoding comes to.
        latency: Of the machine.
        weights: [texts], how often each text counts; once without them.

    Raises:
        TraceError: The texts that count have no cycle.
    """
    weights = np.ones(replayed.tokens.size) if weights is None else weights
    tokens = float(weights @ replayed.tokens)
    cycles = float(weights @ replayed.accepted.sum(axis=1))
    if not cycles:
        raise TraceError("the texts are too short for a single cycle")
    each = weights * seconds_of(replayed.made, size, latency)
    seconds = float(each.sum())
    return Point(
        K=size,
        gamma=replayed.gamma,
        block_efficiency=tokens / cycles,
        tokens_per_second=latency.batch * tokens / seconds,
        speedup=tokens * latency.token() / seconds,
        seconds=each,
    )


def seconds_of(
    made: NDArray[np.int64 | np.float64], size: int, latency: Latency
) -> NDArray[np.float64]:
    """Return the seconds of cycles, [texts].

    Args:
        made: [texts, γ + 1] cycles in which j tokens were drafted.
        size: K.
        latency: Of the machine.
    """
    cycles = [latency.cycle(size, length) for length in range(made.shape[1])]
    result: NDArray[np.float64] = made @ np.array(cycles)
    return result


def plan(
    points: Sequence[Point],
    full_size: int,
    latency: Latency,
    *,
    margin: float | None = None,
    bounds: bool = False,
) -> Plan:
    """Choose among points.

    Of equal points the one with the fewest drafts, and then the fewest rows.

    Args:
        points: At one batch size; some with `full_size` rows.
        full_size: Rows of the untrimmed head.
        latency: That they were computed with.
        margin: Gain that counts; the error of the latencies' fit by default.
        bounds: Whether no point is more than an upper bound. Those can say that
            speculation does not pay, but a ratio of two bounds bounds nothing.

    Raises:
        TraceError: No point has all rows.
    """
    margin = latency.error if margin is None else margin
    whole = [one for one in points if full_size == one.K]
    if not whole:
        raise TraceError(f"a plan compares with the full drafter: {full_size} rows are missing")
    best = max(points, key=_speed)
    full = max(whole, key=_speed)
    interval = None if bounds else gain_interval(best.seconds, full.seconds)
    advice = Advice.UNDECIDED if bounds else Advice.TRIM
    if best.speedup <= 1 + margin:
        advice = Advice.DO_NOT_SPECULATE
    elif not bounds:
        equal = best.tokens_per_second <= full.tokens_per_second * (1 + margin)
        if equal or (interval is not None and interval[0] <= 1):
            advice = Advice.DO_NOT_TRIM
    return Plan(latency.batch, tuple(points), best, full, advice, margin, interval)


def gain_interval(
    ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Return between what a ratio of seconds lies for prompts like these, in 95 %.

    Prompts are drawn anew, both ways of decoding together, for what is easy for
    the one is easy for the other.

    Args:
        ours: [texts] seconds.
        theirs: [texts] seconds for the same tokens.

    Returns:
        Bounds of Σ theirs ÷ Σ ours; None for fewer than `LEAST_PROMPTS` texts.
    """
    if ours.size < LEAST_PROMPTS:
        return None
    drawn = np.random.default_rng(0).integers(ours.size, size=(RESAMPLES, ours.size))
    below = ours[drawn].sum(axis=1)
    ratios = theirs[drawn].sum(axis=1)[below > 0] / below[below > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def _speed(one: Point) -> tuple[float, int, int]:
    return one.tokens_per_second, -one.gamma, -one.K


def bound(tokens: int, outside: int, gammas: Sequence[int]) -> list[Replayed]:
    """Return the fewest cycles that any drafter can need, from counts alone.

    A cycle emits γ + 1 tokens at most, and at most one that is outside the
    draft vocabulary: the target's own, which ends it. So τ ≤ min(γ + 1, tokens ÷
    outside), and with the tokens placed well a perfect drafter gets there. The
    first token of a text is no cycle's, so it belongs to neither number.

    Args:
        tokens: Tokens that are emitted in cycles, at least 1.
        outside: Those of them, at least, whose id is not in the draft vocabulary.
        gammas: Draft lengths.

    Raises:
        TraceError: There is no token.
    """
    if tokens < 1:
        raise TraceError("a bound needs counted tokens")
    found = []
    for gamma in gammas:
        cycles = max(-(-tokens // (gamma + 1)), outside)
        each, more = divmod(tokens - cycles, cycles)
        accepted, drafted = (np.zeros((1, gamma + 1), dtype=np.int64) for _ in range(2))
        accepted[0, each] = cycles - more
        accepted[0, min(each + 1, gamma)] += more
        drafted[0, gamma] = cycles
        found.append(Replayed(gamma, accepted, drafted, drafted, np.array([tokens])))
    return found
