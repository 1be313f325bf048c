"""What the parts of a cycle take on one machine, and a small model of it.

A cycle of speculative decoding drafts γ tokens one after another, lets the
target read them and the token before in one pass, and does the rest: commits,
fuses features, chooses. What was measured stands; between two numbers of tokens,
or two K, it is interpolated, for kernels and caches change from one to the next;
beyond them it goes on as a line does: a draft step in K, for its head is K rows, a
target pass in its tokens. How far draft steps leave their line, or the noise where
that is larger, is what a prediction is worth.

Where only whole cycles were timed, as an engine does it, `Latency.of_cycles`
finds parts that explain them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vocabtrim.core.errors import VocabtrimError


class LatencyError(VocabtrimError):
    """Times that cannot be fitted, or a file that is none of ours."""


@dataclass(frozen=True)
class Line:
    """Seconds as a line, with its error.

    Args:
        intercept: Seconds at 0.
        slope: Seconds more for each.
        error: Largest |fit ÷ measured − 1| of the points that it was fitted to.
    """

    intercept: float
    slope: float
    error: float

    def at(self, value: float) -> float:
        """Return seconds at `value`."""
        return self.intercept + self.slope * value

    @classmethod
    def through(cls, points: Mapping[int, float]) -> Line:
        """Fit a line by least relative squares.

        Args:
            points: Value to seconds, all above 0; with one point the line is flat.

        Raises:
            LatencyError: There is no point, or seconds are not above 0.
        """
        if not points or min(points.values()) <= 0:
            raise LatencyError("a fit needs measured times, all above 0 seconds")
        x = np.array(list(points), dtype=np.float64)
        y = np.array(list(points.values()), dtype=np.float64)
        if x.size == 1:
            return cls(float(y[0]), 0.0, 0.0)
        rows = np.stack([1 / y, x / y], axis=1)
        (intercept, slope), *_ = np.linalg.lstsq(rows, np.ones_like(y))
        error = np.abs((intercept + slope * x) / y - 1).max()
        return cls(float(intercept), float(slope), float(error))


@dataclass(frozen=True)
class Latency:
    """Measured medians of one target and drafter at one batch size.

    Args:
        batch: Texts decoded side by side.
        draft: K to seconds of one draft step.
        verify: Tokens a text to seconds of one target pass; 1 among them, which
            is autoregressive decoding.
        commit: Seconds a cycle besides: what the first draft step takes longer
            than others, and what follows the target's pass. A difference, so
            noise may leave it a little below 0.
        noise: Relative error of a cycle's seconds, as far as repeating shows it.
        one_step: Whether one step drafts all tokens of a cycle, so that the head
            is read once a cycle and not once a draft.
    """

    batch: int
    draft: Mapping[int, float]
    verify: Mapping[int, float]
    commit: float
    noise: float = 0.0
    one_step: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1 or 1 not in self.verify or not self.draft or not self.noise >= 0:
            raise LatencyError(
                "latencies need a batch size, a draft step, and a target pass of one token"
            )
        times = [*self.draft.values(), *self.verify.values()]
        if not all(0 < one < math.inf for one in times) or not math.isfinite(self.commit):
            raise LatencyError("latencies need times above 0 seconds")
        if min(*self.draft, *self.verify) < 1 or not math.isfinite(self.noise):
            raise LatencyError("latencies need sizes and numbers of tokens of 1 or more")

    @classmethod
    def of_cycles(
        cls,
        batch: int,
        token: float,
        cycles: Mapping[tuple[int, int], float],
        *,
        one_step: bool = False,
    ) -> Latency:
        """Explain the seconds of whole cycles by a line in γ and in head rows read.

        What a draft and what a verified token add cannot be told apart, for a
        cycle has as many of the one as of the other; it does not matter for K and γ.

        Args:
            batch: Texts decoded side by side.
            token: Seconds of a token a text in autoregressive decoding.
            cycles: (K, γ) to seconds of a cycle.
            one_step: Whether one step drafts all tokens of a cycle.

        Returns:
            Parts that add up to the fit; its largest relative error is the noise.

        Raises:
            LatencyError: There is one K or one γ only, or no such line explains
                the times.
        """
        sizes, gammas = sorted({K for K, _ in cycles}), sorted({gamma for _, gamma in cycles})
        if len(cycles) < 3 or len(sizes) < 2 or len(gammas) < 2:
            raise LatencyError(
                "to tell the parts of a cycle apart takes two sizes K and two draft lengths"
            )
        seconds = np.array(list(cycles.values()), dtype=np.float64)
        if min(token, seconds.min()) <= 0:
            raise LatencyError("a fit needs measured times, all above 0 seconds")
        parts = np.array([(1, g, K if one_step else g * K) for K, g in cycles], dtype=np.float64)
        # columns are scaled so that none is tiny beside another, rows so that errors are relative
        scale = parts.max(axis=0)
        found, *_ = np.linalg.lstsq(parts / scale / seconds[:, None], np.ones_like(seconds))
        base, step, row = (float(one) for one in found / scale)
        draft = {K: row * K + (0.0 if one_step else step) for K in sizes}
        passes = sorted({1, *gammas})
        verify = {g + 1: base + (step * g if one_step else 0.0) for g in passes}
        if min(*draft.values(), *verify.values()) <= 0:
            raise LatencyError(
                "the times of these cycles do not grow with K and γ as cycles do: measure more"
            )
        error = np.abs(parts @ (found / scale) / seconds - 1).max()
        return cls(batch, draft, {1: token} | verify, 0.0, float(error), one_step)

    @cached_property
    def draft_line(self) -> Line:
        """Seconds of a draft step over K."""
        return Line.through(self.draft)

    @cached_property
    def several(self) -> dict[int, float]:
        """Tokens to seconds of the passes that verify drafts, by tokens."""
        return {tokens: self.verify[tokens] for tokens in sorted(self.verify) if tokens > 1}

    @cached_property
    def verify_line(self) -> Line:
        """Seconds of a target pass over its tokens, of two and more where those are several."""
        return Line.through(self.several if len(self.several) > 1 else self.verify)

    @property
    def error(self) -> float:
        """What seconds of a cycle are worth: the noise, or how far draft steps leave their line.

        As a share of the longest cycle that was timed.
        """
        drafted = max(max(self.verify) - 1, 1)
        steps = 1 if self.one_step else drafted
        off = [
            steps * abs(self.draft_line.at(size) - seconds) / self.cycle(size, drafted)
            for size, seconds in self.draft.items()
        ]
        return max(*off, self.noise)

    def token(self) -> float:
        """Return seconds of a token a text in autoregressive decoding."""
        return self.verify[1]

    def passing(self, tokens: int) -> float:
        """Return seconds of a target pass of so many tokens a text."""
        if tokens == 1:
            return self.verify[1]
        beyond_one = bool(self.several) and tokens >= min(self.several)
        return _between(self.several if beyond_one else self.verify, tokens, self.verify_line)

    def drafting(self, size: int) -> float:
        """Return seconds of a draft step over K ids."""
        return _between(self.draft, size, self.draft_line)

    def cycle(self, size: int, drafted: int) -> float:
        """Return seconds of a cycle that drafts so many tokens over K ids.

        Args:
            size: K.
            drafted: Drafts of the cycle; with none the target passes alone.
        """
        steps = min(drafted, 1) if self.one_step else drafted
        drafting = steps * self.drafting(size) + self.commit if drafted else 0.0
        return drafting + self.passing(drafted + 1)

    def to_json(self) -> dict[str, Any]:
        """Return the document that holds it."""
        return {
            "batch": self.batch,
            "draft": {str(size): seconds for size, seconds in self.draft.items()},
            "verify": {str(tokens): seconds for tokens, seconds in self.verify.items()},
            "commit": self.commit,
            "noise": self.noise,
            "one_step": self.one_step,
            "draft_line": asdict(self.draft_line),
            "verify_line": asdict(self.verify_line),
        }

    @classmethod
    def from_json(cls, document: Any) -> Latency:
        """Read what `to_json` wrote.

        Raises:
            LatencyError: It is something else.
        """
        try:
            return cls(
                batch=int(document["batch"]),
                draft={int(size): float(one) for size, one in document["draft"].items()},
                verify={int(tokens): float(one) for tokens, one in document["verify"].items()},
                commit=float(document["commit"]),
                noise=float(document["noise"]),
                one_step=bool(document["one_step"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise LatencyError(f"these are no latencies of vocabtrim ({fault!r})") from fault


def _between(points: Mapping[int, float], value: int, line: Line) -> float:
    """Return what was measured, interpolated; beyond all points with the line's slope.

    More never takes less, nor does less take less than its share of the least.
    """
    known = sorted(points)
    slope = max(line.slope, 0.0)
    least, measured = known[0], [points[one] for one in known]
    if value < least:
        return max(measured[0] - slope * (least - value), measured[0] * value / least)
    return float(np.interp(value, known, measured)) + slope * max(value - known[-1], 0)
