"""What the parts of a cycle take on one machine, and a small model of it.

A cycle of speculative decoding drafts γ tokens one after another, lets the
target read them and the token before in one pass, and does the rest: commits,
fuses features, chooses. A draft step is a line in K, for its head is K rows; a
target pass of two and more tokens is a line in their number, and a pass of one
token stands for itself, because other kernels do it. Every fit keeps its
largest relative error, which is what a prediction made from it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        commit: Seconds a cycle besides: what the drafter does with what was
            committed.
    """

    batch: int
    draft: Mapping[int, float]
    verify: Mapping[int, float]
    commit: float

    def __post_init__(self) -> None:
        if self.batch < 1 or 1 not in self.verify or not self.draft or self.commit < 0:
            raise LatencyError(
                "latencies need a batch size, a draft step, and a target pass of one token"
            )

    @cached_property
    def draft_line(self) -> Line:
        """Seconds of a draft step over K."""
        return Line.through(self.draft)

    @cached_property
    def verify_line(self) -> Line:
        """Seconds of a target pass over its tokens, of two and more."""
        several = {tokens: seconds for tokens, seconds in self.verify.items() if tokens > 1}
        return Line.through(several or self.verify)

    @property
    def error(self) -> float:
        """The larger of both fits' errors."""
        return max(self.draft_line.error, self.verify_line.error)

    def token(self) -> float:
        """Return seconds of a token a text in autoregressive decoding."""
        return self.verify[1]

    def passing(self, tokens: int) -> float:
        """Return seconds of a target pass of so many tokens a text."""
        return self.verify[1] if tokens == 1 else self.verify_line.at(tokens)

    def cycle(self, size: int, drafted: int) -> float:
        """Return seconds of a cycle that drafts so many tokens over K ids.

        Args:
            size: K.
            drafted: Drafts of the cycle; with none the target passes alone.
        """
        drafting = drafted * self.draft_line.at(size) + self.commit if drafted else 0.0
        return drafting + self.passing(drafted + 1)

    def to_json(self) -> dict[str, Any]:
        """Return the document that holds it."""
        return {
            "batch": self.batch,
            "draft": {str(size): seconds for size, seconds in self.draft.items()},
            "verify": {str(tokens): seconds for tokens, seconds in self.verify.items()},
            "commit": self.commit,
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
            )
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise LatencyError(f"these are no latencies of vocabtrim ({fault!r})") from fault
