"""The choice of the demo on a tiny pair; on the real one it is tested in `test_demo.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_eagle3, tiny_lm
from tests.tiny_models import V, write_target
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.latency_file import read_latencies
from vocabtrim.core.trace_file import read_trace
from vocabtrim.pipeline import demo_choice
from vocabtrim.pipeline.demo_choice import choose
from vocabtrim.tokens.prompts import read_prompts
from vocabtrim.tokens.tokenizer import fingerprint_of


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo_choice, "WIDTH", 2)
    monkeypatch.setattr(demo_choice, "ROUNDS", 1)
    monkeypatch.setattr(demo_choice, "TIMED", (16,))
    write_target(tmp_path / "t", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "eagle")
    tiny_lm(tmp_path / "lm")
    lines = [{"id": str(n), "prompt": "red green " * n, "domain": "d"} for n in (1, 2, 3)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tokenizer = fingerprint_of(tmp_path / "t")
    assert tokenizer is not None
    numbers = np.arange(V)[::-1] + 1
    counted = TokenCounts(numbers, numbers, V, tokenizer)
    write_counts(tmp_path / "counts", counted, inputs={}, options={}, facts={})
    return tmp_path


def test_each_drafter_is_traced_timed_and_planned(place: Path) -> None:
    drafters = {"a": place / "eagle", "b": place / "lm"}
    choices = choose(
        place,
        place / "t",
        drafters,
        place / "counts",
        read_prompts([place / "p.jsonl"]),
        sizes=(64, 4096),
        new_tokens=12,
    )
    assert [choice.drafter for choice in choices] == ["a", "b"]
    for choice in choices:
        trace, _ = read_trace(place / f"{choice.drafter}-trace.safetensors")
        assert [text.name for text in trace.texts] == ["1", "2", "3"]
        # two candidates leave positions open, and none is left so
        assert trace.above
        assert choice.plan.warnings == ()
        assert {one.K for one in choice.plan.choice.points} == {64, V}
        assert choice.point.K == 64
        assert choice.point.speedup == max(
            one.speedup for one in choice.plan.choice.points if one.K < V
        )
        latencies = read_latencies(place / f"{choice.drafter}-latency.json")
        assert (latencies.target, latencies.drafter) == ("demo", choice.drafter)
        document = choice.to_json()
        assert (document["K"], document["plan"]["drafter"]) == (64, choice.drafter)
        assert not any(line.startswith("if only") for line in choice.lines())
