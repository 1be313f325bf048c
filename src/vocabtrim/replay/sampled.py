"""Sampled decoding from a trace, in expectation.

A token x of the target's sampled text was an accepted draft with probability
r = min(1, q(x) ÷ p(x)), whatever came before it (2211.17192, appendix A.1: drafts
of q are accepted with min(1, p ÷ q), so of all x that are emitted, p(x), the part
min(p(x), q(x)) are drafts). So where the texts are given, a cycle from a position
accepts exactly j drafts with probability r₁ … r_j (1 − r_{j+1}), and how often
each position begins a cycle follows by renewal: from 1, each start hands its
probability on to the starts that can follow it. Nothing is decoded, and what is
left to chance is the texts. Conventions are those of `core/metrics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.trace import TracedText, TraceError


@dataclass(frozen=True, eq=False)
class SampledTrace:
    """Chances of acceptance along sampled texts, for nested vocabularies.

    Rows go text by text, as in `Trace`. With `own_depths`, D is the longest draft;
    without, D is 1 and depth j of a row is depth 0 of the row j further on.

    Args:
        texts: Sampled by the target.
        sizes: [S] K, the first so many ids of one order.
        accepted: [N, D, S] float64 r of the text's own token; 0 where it is not in
            the vocabulary, and behind the end of a text.
        overlap: [N, D, S] float64 Σ min(p, q), the chance that a draft there is
            accepted before anything is known of the token; 0 behind the end.
        own_depths: Whether depths were recorded at each row.
        max_gamma: Longest draft that can be replayed.

    Raises:
        TraceError: Shapes contradict each other, or a chance is none.
    """

    texts: tuple[TracedText, ...]
    sizes: tuple[int, ...]
    accepted: NDArray[np.float64]
    overlap: NDArray[np.float64]
    own_depths: bool
    max_gamma: int

    def __post_init__(self) -> None:
        rows = sum(text.starts for text in self.texts)
        shape = (rows, self.max_gamma if self.own_depths else 1, len(self.sizes))
        if self.accepted.shape != shape or self.overlap.shape != shape or self.max_gamma < 1:
            raise TraceError(f"a sampled trace of these texts has the shape {shape}")
        for name, chances in (("accepted", self.accepted), ("overlap", self.overlap)):
            if chances.size and not (chances.min() >= 0 and chances.max() <= 1 + 1e-6):
                raise TraceError(f"{name} of a sampled trace are no chances")

    def acceptance_by_depth(self) -> NDArray[np.float64]:
        """Return [D, S]: the mean chance of acceptance where a draft has got so far."""
        reached = (self.overlap > 0).any(axis=2, keepdims=True)
        means: NDArray[np.float64] = self.overlap.sum(axis=0) / np.maximum(reached.sum(axis=0), 1)
        return means


@dataclass(frozen=True, eq=False)
class Expected:
    """What decoding the texts comes to on average.

    Args:
        size: K.
        gamma: Draft length.
        accepted: [γ + 1] cycles that accept j drafts.
        drafted: [γ + 1] cycles in which j drafts count.
        tokens: Emitted in cycles.
    """

    size: int
    gamma: int
    accepted: NDArray[np.float64]
    drafted: NDArray[np.float64]
    tokens: int

    @property
    def cycles(self) -> float:
        """Target passes after the prefill."""
        return float(self.accepted.sum())

    @property
    def block_efficiency(self) -> float | None:
        """Tokens a cycle; None where there is no cycle."""
        return self.tokens / self.cycles if self.tokens else None


def expected(trace: SampledTrace, gammas: Sequence[int]) -> list[Expected]:
    """Return what decoding comes to, for each size and then each draft length.

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
    tokens = sum(text.starts for text in trace.texts)
    results: dict[tuple[int, int], Expected] = {}
    for gamma in gammas:
        shape = (len(trace.sizes), gamma + 1)
        accepted, drafted = np.zeros(shape), np.zeros(shape)
        first = 0
        for text in trace.texts:
            _walk(trace, text, first, gamma, (accepted, drafted))
            first += text.starts
        for index, size in enumerate(trace.sizes):
            results[index, gamma] = Expected(size, gamma, accepted[index], drafted[index], tokens)
    return [results[index, gamma] for index in range(len(trace.sizes)) for gamma in gammas]


def _walk(
    trace: SampledTrace,
    text: TracedText,
    first: int,
    gamma: int,
    into: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Hand the probability of being a start through a text, all sizes at once."""
    accepted, drafted = into
    size = int(text.tokens.size)
    begins = np.zeros((size + 1, len(trace.sizes)))
    begins[1] = 1.0
    for emitted in range(1, size):
        left = size - emitted
        asked = min(gamma, text.budget - emitted - 1)
        most = min(asked, left)
        going = begins[emitted].copy()
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
