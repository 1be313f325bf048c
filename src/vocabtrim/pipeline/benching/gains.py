"""Whether one arm is faster than another, with an interval, and the verdict.

A rate is tokens over seconds of one repeat, all prompts together; of several
repeats the median counts. Its interval is a bootstrap over prompts and repeats
at once, both drawn for the two arms alike: prompts differ in how well they are
drafted, repeats in what else the machine did, and the arms took turns in both.

A gain counts where its interval lies above 1 and the gain itself above the
noise, which is how far two arms that do the same lie apart. Everything else is
"do not trim": a drafter that is not measurably faster is one more thing to keep.
That goes for a handful of measurements, which have no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST = 6
"""Measurements of an arm below which there is no interval. Of three, the lower end is the
worst itself, and of two equal arms all three lie above 1 one time in eight."""


@dataclass(frozen=True, eq=False)
class Timed:
    """What was timed of one arm.

    Args:
        tokens: [P, R] tokens of each prompt, or pass, in each repeat.
        seconds: [P, R] the time they took.
    """

    tokens: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """[R] tokens a second of each repeat."""
        return _divided(self.tokens.sum(axis=0), self.seconds.sum(axis=0))

    @property
    def rate(self) -> float | None:
        """Tokens a second: the median of the repeats; None where nothing was timed."""
        value = float(np.median(self.rates))
        return value if value > 0 else None

    def drawn(self, prompts: NDArray[np.int64], repeats: NDArray[np.int64]) -> NDArray[np.float64]:
        """[S] rates of resamples: [S, P] prompts and [S, R] repeats."""
        tokens = _summed(self.tokens, prompts, repeats)
        return np.asarray(
            np.median(_divided(tokens, _summed(self.seconds, prompts, repeats)), axis=1)
        )


@dataclass(frozen=True)
class Ratio:
    """How much faster one arm is than another.

    Args:
        value: Its rate over the other's.
        low: Lower end of the interval; None where there were too few measurements.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def is_above_one(self) -> bool:
        """Whether the whole interval is."""
        return self.low is not None and self.low > 1.0

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Gain:
    """What a trimmed drafter gained over the full one.

    Args:
        drafter: Its name.
        base: The name of the full one.
        concurrency: Requests in flight.
        by_gamma: Draft length to the ratio there.
        ratio: The geometric mean of them.
        noise: How far two arms that do the same lie apart.
    """

    drafter: str
    base: str
    concurrency: int
    by_gamma: dict[int, Ratio]
    ratio: Ratio
    noise: float | None

    @property
    def trim(self) -> bool:
        """Whether trimming pays, as far as this measurement can tell."""
        return self.ratio.is_above_one and self.ratio.value - 1.0 > (self.noise or 0.0)

    def verdict(self) -> str:
        """Return the verdict and its reason, as one sentence."""
        noise = "" if self.noise is None else f", noise {self.noise:.1%}"
        lengths = ", ".join(map(str, self.by_gamma))
        what = f"{self.drafter} is {self.ratio} times as fast as {self.base} at γ {lengths}{noise}"
        if self.trim:
            return f"trim: {what}"
        if self.ratio.low is None:
            return (
                f"do not trim: {what}; too few measurements to tell, which takes {FEWEST} prompts "
                "times repeats, or passes: raise --repeat"
            )
        if self.ratio.high is not None and self.ratio.high < 1.0:
            return f"do not trim: {what}, which is slower"
        if self.ratio.is_above_one:
            return f"do not trim: {what}, and a gain inside the noise is none"
        return f"do not trim: {what}, and that interval includes 1"


def noise_of(one: Timed, twin: Timed) -> float | None:
    """Return the largest difference of two arms that do the same, over repeats, as a share."""
    a, b = one.rates, twin.rates
    known = (a > 0) & (b > 0)
    return float(np.abs(a[known] / b[known] - 1.0).max()) if known.any() else None


def ratio_of(
    pairs: Sequence[tuple[Timed, Timed]], generator: np.random.Generator, *, resamples: int
) -> Ratio | None:
    """Return the geometric mean over pairs of the first's rate over the second's.

    Args:
        pairs: Arms on the same prompts in the same repeats; one or more.
        generator: Source of the draws.
        resamples: Bootstrap samples.

    Returns:
        None where an arm was not timed.
    """
    values = [(one.rate, other.rate) for one, other in pairs]
    if not values or not all(one and other for one, other in values):
        return None
    value = float(np.exp(np.mean([np.log((one or 1.0) / (other or 1.0)) for one, other in values])))
    P, R = pairs[0][0].tokens.shape
    if P * R < FEWEST:
        return Ratio(value)
    prompts = generator.integers(0, P, size=(resamples, P))
    repeats = generator.integers(0, R, size=(resamples, R))
    logs = np.zeros(resamples)
    for one, other in pairs:
        top, bottom = one.drawn(prompts, repeats), other.drawn(prompts, repeats)
        # a resample of prompts that emit one token each has no rate
        logs += np.log(np.where((top > 0) & (bottom > 0), _divided(top, bottom), 1.0))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.exp(np.quantile(logs / len(pairs), [tail, 1.0 - tail]))
    return replace(Ratio(value), low=float(low), high=float(high))


def _summed(
    values: NDArray[np.float64], prompts: NDArray[np.int64], repeats: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[S, R] sums over drawn prompts, of drawn repeats."""
    P = values.shape[0]
    times = np.stack([(prompts == prompt).sum(axis=1) for prompt in range(P)], axis=1)
    return np.take_along_axis(times @ values, repeats, axis=1)


def _divided(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)
