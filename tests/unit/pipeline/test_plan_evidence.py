"""Which traces a plan reads as one; what follows from them is in test_plan.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import FACTS, ORDER, latencies, sampled, written_counts
from tests.traces import V, World
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import write_trace
from vocabtrim.pipeline.plan import plan_pair
from vocabtrim.pipeline.plan_evidence import read_evidence


def test_another_seed_draws_more_of_the_same(tmp_path: Path) -> None:
    counts = written_counts(tmp_path / "counts")
    paths = [tmp_path / "one", tmp_path / "other"]
    texts = [sampled(path, seed).texts for seed, path in enumerate(paths)]
    evidence = read_evidence(paths, counts, None)
    assert evidence.kind == "sampled trace"
    assert [one.name for one in evidence.trace.texts] == [
        one.name for several in texts for one in several
    ]


def test_sampled_texts_of_different_kinds_are_no_plan(tmp_path: Path) -> None:
    counts = written_counts(tmp_path / "counts")
    trace = tmp_path / "trace"
    write_trace(trace, World(2).trace(), inputs={}, options={}, facts=FACTS)
    first = tmp_path / "first"
    sampled(first, 1)
    others: dict[str, dict[str, Any]] = {
        "is for one way of sampling": {"temperature": 1.0},
        "for one target and one drafter": {"drafter": "another"},
        "or orders of ids": {"order": ORDER[::-1].copy()},
    }
    for index, (said, differing) in enumerate(others.items()):
        sampled(tmp_path / str(index), 2, **differing)
        with pytest.raises(TraceError, match=said):
            plan_pair([first, tmp_path / str(index)], counts, latency=latencies())
    with pytest.raises(TraceError, match="one way of sampling"):
        plan_pair([first, trace], counts, latency=latencies())
    with pytest.raises(TraceError, match="takes ids in another order"):
        plan_pair([tmp_path / "2"], counts, latency=latencies())
    with pytest.raises(TraceError, match=rf"knows K = 9, {V}, not 4; trace again"):
        plan_pair([first], counts, latency=latencies(), sizes=[4], exact=True)
