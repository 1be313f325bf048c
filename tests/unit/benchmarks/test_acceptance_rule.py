"""The benchmark runs as a command on traces of drawn logits, and adds up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import acceptance_rule
from benchmarks.acceptance_rule import difference, main
from tests.traces import TOKENIZER, V, World
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.trace import TracedText
from vocabtrim.core.trace_file import write_trace
from vocabtrim.replay.replay import Nested


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(acceptance_rule, "SIZES", (5, 9))
    for seed, name in ((1, "seen"), (2, "held")):
        world = World(seed, texts=20)
        world.texts = [
            TracedText(name + one.name, one.domain, one.prompt_ids, one.tokens, one.budget)
            for one in world.texts
        ]
        write_trace(tmp_path / name, world.trace(), inputs={}, options={}, facts={"drafter": "d"})
    numbers = np.arange(V)[::-1] + 1
    counted = TokenCounts(numbers, numbers, 20, TOKENIZER)
    write_counts(tmp_path / "c", counted, inputs={}, options={}, facts={})
    return tmp_path


def run(place: Path, held: str = "held") -> int:
    return main(
        [
            *("--trace", str(place / "seen"), "--held-out", str(place / held)),
            *("--counts", f"target={place / 'c'}"),
        ]
    )


def test_a_row_for_every_size_and_length(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["acceptance_rule"]
    assert [(one["K"], one["gamma"]) for one in found["rows"]] == [
        (K, gamma) for K in (V, V) for gamma in (1, 2, 4)
    ]
    assert (found["drafter"], found["held_out_prompts"]) == ("d", 20)
    for one in found["rows"]:
        assert one["gain"] == pytest.approx(one["acceptance"] / one["frequency"] - 1)
        assert one["low"] <= one["gain"] <= one["high"]


def test_shared_prompts_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, "seen") == 2
    assert "is in both traces" in capsys.readouterr().err


def test_a_difference_is_of_pairs() -> None:
    nested = Nested(World(3, texts=30).trace(), np.arange(V))
    (few,), (many,) = nested.replay(3, [3]), nested.replay(V, [3])
    assert difference(many, many, np.random.default_rng(0)) == (0.0, 0.0, 0.0)
    gain, low, high = difference(many, few, np.random.default_rng(0))
    one, other = (run.pooled.block_efficiency for run in (many, few))
    assert one is not None
    assert other is not None
    assert gain == pytest.approx(one / other - 1)
    assert low < gain < high
