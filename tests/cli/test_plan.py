"""`vocabtrim plan` as a user meets it, on a trace of drawn logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.traces import TOKENIZER, V, World
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.latency import Latency
from vocabtrim.core.latency_file import Latencies
from vocabtrim.core.trace_file import write_trace


@pytest.fixture
def place(tmp_path: Path) -> Path:
    facts = {"target": "big", "drafter": "small"}
    write_trace(tmp_path / "t", World(2, texts=30).trace(), inputs={}, options={}, facts=facts)
    numbers = np.arange(V)[::-1] + 1
    counted = TokenCounts(numbers, numbers, 20, TOKENIZER)
    write_counts(tmp_path / "c", counted, inputs={}, options={}, facts={})
    times = Latency(1, {4: 0.005, V: 0.014}, {1: 0.02, 2: 0.022, 5: 0.03}, 0.0005)
    found = Latencies("big", "small", V, None, (times,), {})
    (tmp_path / "l").write_text(json.dumps(found.to_json()))
    return tmp_path


def test_a_surface_and_a_verdict(vocabtrim: Command, place: Path) -> None:
    given = ("plan", place / "t", "--counts", place / "c", "--latency", place / "l")
    outcome = vocabtrim(
        *given, "--top-k", "4,8", "--gamma", "1-3", "--exact-k", "--json", place / "j"
    )
    assert outcome.code == 0, outcome.err
    document = json.loads((place / "j").read_text())["plan"]
    (batch,) = document["batches"]
    assert {(one["K"], one["gamma"]) for one in batch["points"]} == {
        (K, gamma) for K in (4, 8, V) for gamma in (1, 2, 3)
    }
    assert f"{batch['advice']}:" in outcome.out
    assert outcome.out.count("*") == 1  # the best point is marked


def test_a_bound_needs_no_trace(vocabtrim: Command, place: Path) -> None:
    outcome = vocabtrim("plan", "--counts", place / "c", "--latency", place / "l")
    assert outcome.code == 0, outcome.err
    assert "a bound from counts" in outcome.out
    assert "warning: without a trace this is a bound" in outcome.err


def test_faults_are_one_sentence(vocabtrim: Command, place: Path) -> None:
    for more, said in (
        (("--latency", place / "l", "--params"), "one of --latency FILE and --params"),
        ((), "one of --latency FILE and --params"),
        (("--params",), "nothing to take time from"),
        (("--latency", place / "absent"), "no JSON can be read"),
        (("--latency", place / "l", "--gamma", "x"), "--gamma takes numbers"),
        (("--latency", place / "l", "--gamma", "9"), "asked for 9"),
        (("--latency", place / "l", "--weight", "odd"), "--weight takes DOMAIN=NUMBER"),
        (("--latency", place / "l", "--weight", "code=2"), "no domain 'code' to weight"),
    ):
        outcome = vocabtrim("plan", place / "t", "--counts", place / "c", *more)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert said in outcome.err
