"""Documents of ids and their counts, for tests of what counts can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts

Documents = Sequence[Sequence[int]] | Sequence[NDArray[np.int64]]


def counts_of(
    documents: Documents, vocab_size: int, domains: Sequence[str] | None = None
) -> TokenCounts:
    """Count as `count` does, the slow way."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    frequency = np.zeros(vocab_size, dtype=np.int64)
    for document in documents:
        ids, times = np.unique(np.asarray(document, dtype=np.int64), return_counts=True)
        counts[ids] += times
        frequency[ids] += 1
    parts = {
        name: counts_of(
            [
                document
                for document, own in zip(documents, domains or (), strict=True)
                if own == name
            ],
            vocab_size,
        )
        for name in sorted(set(domains or ()))
    }
    return TokenCounts(counts, frequency, len(documents), "t", domains=parts)


def bursty_documents(
    n_documents: int, vocab_size: int, seed: int, *, again: float = 0.2
) -> list[NDArray[np.int64]]:
    """Draw documents from Zipf's law, a part of each from three words of its own."""
    generator = np.random.default_rng(seed)
    chances = 1.0 / (np.arange(vocab_size) + 3.0)
    chances /= chances.sum()
    documents = []
    for length in generator.integers(40, 400, n_documents):
        words = generator.choice(vocab_size, length, p=chances)
        topics = generator.choice(words, 3)
        repeated = generator.random(length) < again
        words[repeated] = generator.choice(topics, int(repeated.sum()))
        documents.append(words.astype(np.int64))
    return documents
