"""The benchmark runs as a command, on a tiny pair, and its numbers are of what was decoded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import planning
from benchmarks.planning import GAMMAS, main
from tests.tiny import tiny_lm
from tests.tiny_models import V, write_target
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.tokens.tokenizer import fingerprint_of


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_target(tmp_path / "t", num_hidden_layers=4)
    tiny_lm(tmp_path / "d")
    lines = [{"id": str(n), "prompt": "red green " * n} for n in (1, 2, 3)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tokenizer = fingerprint_of(tmp_path / "t")
    assert tokenizer is not None
    numbers = np.arange(V)[::-1] + 1
    counted = TokenCounts(numbers, numbers, V, tokenizer)
    write_counts(tmp_path / "c", counted, inputs={}, options={}, facts={})
    return tmp_path


def test_all_of_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planning, "WIDTH", 8)
    code = main(
        [
            *("--target", str(place / "t"), "--drafter", str(place / "d")),
            *("--prompts", str(place / "p.jsonl"), "--counts", str(place / "c")),
            *("--limit", "2", "--new-tokens", "8", "--small", "32", "--clock", "cpu"),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0
    found = json.loads(said.splitlines()[-1])["planning"]
    assert found["prompts"] == 2
    assert [(one["K"], one["gamma"]) for one in found["points"]] == [
        (K, gamma) for K in (32, V) for gamma in GAMMAS
    ]
    assert found["of"] == 10
    assert 0 <= found["within_10_percent"] <= 10
    assert 0 < found["picked_over_best"] <= 1
    assert found["surface_points"] == 64
    assert found["surface_s"] > 0
    assert all(one["measured"] > 0 and one["block_efficiency"] >= 1 for one in found["points"])
    assert "within 10 %" in said


def test_a_fault_is_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--target", str(place / "absent"), "--drafter", str(place / "d")])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_demos_held_out_prompts_are_held_out() -> None:
    found = planning._held_out()
    assert len({prompt.domain for prompt in found[:8]}) == 8
    assert len(found) > 50
