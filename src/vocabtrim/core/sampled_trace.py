"""Chances of acceptance along texts that the target sampled, for nested vocabularies.

A token x of a sampled text was an accepted draft with probability
r = min(1, q(x) ÷ p(x)), whatever came before it (2211.17192, appendix A.1: drafts
of q are accepted with min(1, p ÷ q), so of all x that are emitted, p(x), the part
min(p(x), q(x)) are drafts). q is over the draft vocabulary, so r is recorded for
each vocabulary asked about. `replay/sampled.py` says what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.trace import TracedText, TraceError


@dataclass(frozen=True, eq=False)
class SampledTrace:
    """Chances along many texts, for the first K ids of one order.

    Rows go text by text, as in `Trace`. With `own_depths`, D is the longest draft;
    without, D is 1 and depth j of a row is depth 0 of the row j further on.

    Args:
        texts: Sampled by the target.
        sizes: [S] K, ascending.
        order: [R] int64 the ids that the drafter's head has rows for: a vocabulary
            of K is the first K of them.
        accepted: [N, D, S] float64 r of the text's own token; 0 where it is not in
            the vocabulary, and behind the end of a text.
        overlap: [N, D, S] float64 Σ min(p, q), the chance that a draft there is
            accepted before anything is known of the token; 0 behind the end.
        own_depths: Whether depths were recorded at each row.
        max_gamma: Longest draft that can be replayed.
        vocab_size: V.
        tokenizer: Fingerprint.

    Raises:
        TraceError: Shapes contradict each other, or a chance is none.
    """

    texts: tuple[TracedText, ...]
    sizes: tuple[int, ...]
    order: NDArray[np.int64]
    accepted: NDArray[np.float64]
    overlap: NDArray[np.float64]
    own_depths: bool
    max_gamma: int
    vocab_size: int
    tokenizer: str

    def __post_init__(self) -> None:
        rows = sum(text.starts for text in self.texts)
        shape = (rows, self.max_gamma if self.own_depths else 1, len(self.sizes))
        if self.accepted.shape != shape or self.overlap.shape != shape or self.max_gamma < 1:
            raise TraceError(f"a sampled trace of these texts has the shape {shape}")
        for name, chances in (("accepted", self.accepted), ("overlap", self.overlap)):
            # so that a chance that is no number is refused too
            if chances.size and not (chances.min() >= 0 and chances.max() <= 1 + 1e-6):
                raise TraceError(f"{name} of a sampled trace are no chances")
        ids = np.unique(self.order)
        if ids.shape != self.order.shape or (
            ids.size and not 0 <= ids[0] <= ids[-1] < self.vocab_size
        ):
            raise TraceError(
                f"the order of a sampled trace has an id twice, or one that is none of "
                f"{self.vocab_size}"
            )
        ascending = (0, *self.sizes, self.head_rows + 1)
        if any(one >= other for one, other in pairwise(ascending)):
            raise TraceError(
                f"the sizes of a sampled trace must ascend from 1 to {self.head_rows} at most, "
                f"found {', '.join(map(str, self.sizes))}"
            )

    @property
    def head_rows(self) -> int:
        """Rows of the drafter's head."""
        return int(self.order.size)

    def acceptance_by_depth(self) -> NDArray[np.float64]:
        """Return [D, S]: the mean chance of acceptance where a draft has got so far."""
        reached = (self.overlap > 0).any(axis=2, keepdims=True)
        means: NDArray[np.float64] = self.overlap.sum(axis=0) / np.maximum(reached.sum(axis=0), 1)
        return means


def joined_sampled(traces: Sequence[SampledTrace]) -> SampledTrace:
    """Return several traces as one.

    Args:
        traces: Of one drafter and tokenizer, for the same vocabularies; one at least.

    Raises:
        TraceError: They differ in what they are of.
    """
    first = traces[0]
    for other in traces[1:]:
        if _kind(other) != _kind(first):
            raise TraceError(
                "the sampled traces are of different drafters, tokenizers, draft lengths, sizes "
                "or orders of ids, so they cannot be read as one"
            )
    return replace(
        first,
        texts=tuple(text for one in traces for text in one.texts),
        accepted=np.concatenate([one.accepted for one in traces]),
        overlap=np.concatenate([one.overlap for one in traces]),
    )


def _kind(trace: SampledTrace) -> tuple[Any, ...]:
    same = (trace.vocab_size, trace.max_gamma, trace.sizes, trace.own_depths)
    return (trace.tokenizer, trace.order.tobytes(), *same)
