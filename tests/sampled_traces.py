"""Sampled traces of drawn chances."""

from __future__ import annotations

import numpy as np

from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.trace import TracedText

V = 9


def drawn(seed: int = 0, *, own_depths: bool = True) -> SampledTrace:
    generator = np.random.default_rng(seed)
    texts = [
        TracedText(f"{seed} {size}", "ab"[size % 2], np.arange(2), np.arange(size), size + 2)
        for size in (1, 4, 3)
    ]
    rows = sum(text.starts for text in texts)
    accepted, overlap = generator.random((2, rows, 2 if own_depths else 1, 2))
    order = np.array([4, 0, 8, 7, 1])
    return SampledTrace(tuple(texts), (2, 5), order, accepted, overlap, own_depths, 2, V, "t")


def same(one: SampledTrace, other: SampledTrace) -> bool:
    arrays = ("accepted", "overlap", "order")
    plain = ("sizes", "own_depths", "max_gamma", "vocab_size", "tokenizer")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and all(getattr(one, name) == getattr(other, name) for name in plain)
        and [(text.name, text.domain, text.budget) for text in one.texts]
        == [(text.name, text.domain, text.budget) for text in other.texts]
        and all(
            np.array_equal(ours.tokens, theirs.tokens)
            and np.array_equal(ours.prompt_ids, theirs.prompt_ids)
            for ours, theirs in zip(one.texts, other.texts, strict=True)
        )
    )
