"""What plans are made of: costs, counts, latencies and traces of sampled texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.traces import TOKENIZER, V
from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.latency import Latency
from vocabtrim.core.latency_file import Latencies
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.sampled_trace_file import write_sampled_trace
from vocabtrim.core.trace import TracedText

COST = PairCost(StepCost(1000, 130, 2000, 260), StepCost(330, 130, 560, 260), V, shared=True)
FACTS = {"target": "big", "drafter": "small", "cost": COST.to_json()}

ORDER = np.arange(V)
"""Of `written_counts`: the more frequent, the lower the id."""


def written_counts(path: Path, *, tokenizer: str = TOKENIZER, eos: tuple[int, ...] = ()) -> Path:
    numbers = np.arange(V)[::-1] ** 2
    found = TokenCounts(numbers, np.minimum(numbers, 3), 3, tokenizer, SpecialIds(eos=eos))
    write_counts(path, found, inputs={}, options={}, facts={})
    return path


def latency(
    *, row: float = 2e-3, verify: float = 0.02, batch: int = 1, noise: float = 0.0
) -> Latency:
    draft = {K: 0.001 + K * row for K in (4, V)}
    return Latency(batch, draft, {1: verify, 2: verify * 1.1, 5: verify * 1.4}, 0.0005, noise)


def latencies(*batches: Latency, **changes: Any) -> Latencies:
    found = Latencies("big", "small", V, None, batches or (latency(),), {"threads": 1})
    return replace(found, **changes)


def sampled(
    path: Path, seed: int, *, temperature: float = 0.7, order: Any = ORDER, drafter: str = "small"
) -> SampledTrace:
    generator = np.random.default_rng(seed)
    texts = [
        TracedText(f"{seed} {index}", "ab"[index % 2], np.arange(2), np.arange(size), size + 2)
        for index, size in enumerate(generator.integers(3, 9, size=6).tolist())
    ]
    shape = (2, sum(text.starts for text in texts), 3, 2)
    # of more rows, more drafts are accepted
    accepted, overlap = np.sort(generator.random(shape), axis=-1)
    trace = SampledTrace(tuple(texts), (9, V), order, accepted, overlap, True, 3, V, TOKENIZER)
    options = {"sampling": {"temperature": temperature, "seed": seed}}
    facts = FACTS | {"drafter": drafter}
    write_sampled_trace(path, trace, inputs={}, options=options, facts=facts)
    return trace
