"""Coverage of a draft vocabulary on text that it was not chosen on.

A document is two numbers, its tokens and how many of them are in the
vocabulary; coverage is the ratio of their sums. Its interval resamples whole
documents, for the misses of one document come together: a name, a formula, a
foreign word is missed as often as the text repeats it. The worst domain comes
first, since an average hides the one for which the vocabulary does not work.

What needs no held-out text is in `sufficiency.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.vocab import DraftVocab

MOST_RESAMPLED = 5000
"""More documents than this are pooled at random into so many groups first."""


@dataclass(frozen=True)
class HeldOutCoverage:
    """Share of held-out tokens that a draft vocabulary covers.

    Args:
        share: Covered tokens / tokens.
        low: Lower end of the bootstrap interval; None for a single document.
        high: Its upper end.
        n_documents: Documents with at least one token.
        n_tokens: Their tokens.
        domains: The same for each domain, least covered first.
    """

    share: float
    low: float | None
    high: float | None
    n_documents: int
    n_tokens: int
    domains: Mapping[str, HeldOutCoverage] = field(default_factory=dict)


def covered_tokens(documents: Sequence[NDArray[np.int64]], vocab: DraftVocab) -> NDArray[np.int64]:
    """Count the tokens of each document, and those in the vocabulary.

    Args:
        documents: [T] ids each, all in [0, V).
        vocab: The draft vocabulary.

    Returns:
        [D, 2] int64: tokens, covered tokens.

    Raises:
        CalibrationError: An id lies outside the vocabulary's V.
    """
    lengths = np.array([ids.size for ids in documents], dtype=np.int64)
    tokens = np.concatenate([np.empty(0, dtype=np.int64), *documents])
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab.vocab_size:
        raise CalibrationError(
            f"held-out ids run from {tokens.min()} to {tokens.max()}, "
            f"but the draft vocabulary is over {vocab.vocab_size} ids"
        )
    before = np.concatenate([[0], np.cumsum(vocab.t2d[tokens])])
    stops = np.cumsum(lengths)
    return np.stack([lengths, before[stops] - before[stops - lengths]], axis=1)


def held_out_coverage(
    pairs: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    domains: Sequence[str | None] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> HeldOutCoverage:
    """Return coverage with a percentile bootstrap interval over documents.

    Args:
        pairs: [D, 2] tokens and covered tokens of each document, as
            `covered_tokens` gives them.
        generator: Source of randomness.
        domains: The domain of each document; None belongs to none.
        confidence: Mass inside the interval.
        resamples: Bootstrap samples.

    Raises:
        CalibrationError: There is no token, more are covered than there are,
            or `domains` is not one a document.
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs < 0).any():
        raise CalibrationError(f"coverage needs [D, 2] token counts, found shape {pairs.shape}")
    if (pairs[:, 1] > pairs[:, 0]).any():
        raise CalibrationError("a document has more covered tokens than tokens")
    named = [None] * len(pairs) if domains is None else list(domains)
    if len(named) != len(pairs):
        raise CalibrationError(f"{len(named)} domains were given for {len(pairs)} documents")
    names = np.array(named, dtype=object)

    def of(part: NDArray[np.int64], parts: Mapping[str, HeldOutCoverage]) -> HeldOutCoverage:
        filled = part[part[:, 0] > 0]
        if not len(filled):
            raise CalibrationError("there is no held-out token to measure coverage on")
        total, covered = (int(column) for column in filled.sum(axis=0))
        low, high = _interval(filled, generator, confidence, resamples)
        return HeldOutCoverage(covered / total, low, high, len(filled), total, parts)

    found = {
        name: of(pairs[names == name], {})
        for name in sorted({name for name in named if name is not None})
        if pairs[names == name, 0].any()
    }
    worst_first = sorted(found.items(), key=lambda item: item[1].share)
    return of(pairs, dict(worst_first))


def _interval(
    pairs: NDArray[np.int64], generator: np.random.Generator, confidence: float, resamples: int
) -> tuple[float, float] | tuple[None, None]:
    if len(pairs) < 2:
        return None, None
    if len(pairs) > MOST_RESAMPLED:
        starts = np.linspace(0, len(pairs), MOST_RESAMPLED, endpoint=False).astype(np.int64)
        pairs = np.add.reduceat(generator.permutation(pairs), starts, axis=0)
    sums = np.array(
        [
            pairs[generator.integers(0, len(pairs), size=len(pairs))].sum(axis=0)
            for _ in range(resamples)
        ]
    )
    outside = (1 - confidence) / 2
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [outside, 1 - outside])
    return float(low), float(high)
