"""The demo at a small scale: every phase, on the real pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vocabtrim.core.errors import OutputExists
from vocabtrim.core.manifest import DIRECTORY_MANIFEST
from vocabtrim.pipeline import demo as module
from vocabtrim.pipeline.replay import replay_trace
from vocabtrim.tensors.checkpoint import Checkpoint


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, demo_cache: Path) -> None:
    """Cut the demo down to seconds."""
    monkeypatch.setattr("vocabtrim.pipeline.demo_choice.ROUNDS", 1)
    monkeypatch.setattr("vocabtrim.pipeline.demo_choice.GAMMAS", (1, 2))
    for name, value in {
        "NEW_TOKENS": 8,
        "SIZES": (1024, 4096),
        "COUNTED_PROMPTS": 2,
        "CHOOSING_PROMPTS": 2,
        "HELD_OUT_PROMPTS": 2,
        "TIMED_PROMPTS": 1,
        "REPEAT": 1,
    }.items():
        monkeypatch.setattr(module, name, value)


def test_the_whole_work_replaces_what_a_demo_left(small: None, tmp_path: Path) -> None:
    said: list[str] = []
    output = tmp_path / "demo"
    output.mkdir()
    (output / DIRECTORY_MANIFEST).write_text("{}")
    (output / "stale.safetensors").write_text("old")
    result = module.demo(output, say=said.append)
    assert not (output / "stale.safetensors").exists()
    assert result.evaluation.is_lossless
    report = json.loads((output / module.REPORT).read_text(encoding="utf-8"))
    arms = {(run["drafter"], run["K"], run["gamma"]) for run in report["runs"]}
    choices = {choice["drafter"]: choice for choice in report["demo"]["choices"]}
    expected: set[tuple[str | None, int | None, int]] = {(None, None, 0)}
    for name, choice in choices.items():
        expected |= {(name, K, choice["gamma"]) for K in (choice["K"], 49_152)}
        (batch,) = choice["plan"]["batches"]
        points = [one for one in batch["points"] if one["K"] < 49_152]
        assert {one["K"] for one in points} == {1024, 4096}
        assert {one["gamma"] for one in points} == {1, 2}
        best = max(points, key=lambda one: one["speedup"])
        assert (best["K"], best["gamma"]) == (choice["K"], choice["gamma"])
        assert choice["plan"]["warnings"] == []
        # what was traced answers for itself
        vocab, trace = (output / f"{name}-{what}.safetensors" for what in ("vocab", "trace"))
        (again,) = replay_trace(trace, gammas=[choice["gamma"]], vocabs=[vocab]).runs
        assert again.block_efficiency == best["block_efficiency"]
    assert arms == expected
    assert list(report["demo"]["seconds"]) == [
        "set-up",
        "generate",
        "count",
        "trace and plan",
        "select and trim",
        "prove and measure",
    ]
    for name in module.DRAFTERS:
        assert Checkpoint.open(output / name).config["draft_vocab_size"] == choices[name]["K"]
    assert report["demo"]["counted_tokens"] > 100_000
    for name, choice in choices.items():
        assert f"  {name}: K = {choice['K']:,}, γ = {choice['gamma']}" in said


def test_no_prompt_is_both_calibrated_on_and_held_out(tmp_path: Path) -> None:
    counted, choosing, held_out = (
        {json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()}
        for path in module._prompts(tmp_path)
    )
    assert len(counted) == module.COUNTED_PROMPTS
    assert len(choosing) == module.CHOOSING_PROMPTS
    assert len(held_out) == module.HELD_OUT_PROMPTS
    assert not counted & choosing
    assert not (counted | choosing) & held_out


def test_prompts_come_from_every_domain(tmp_path: Path) -> None:
    for path in module._prompts(tmp_path):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len({json.loads(line)["domain"] for line in lines}) == 8


def test_a_directory_of_yours_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear")
    with pytest.raises(OutputExists):
        module.demo(tmp_path)
    assert (tmp_path / "diary.txt").read_text() == "dear"
    assert not (tmp_path / DIRECTORY_MANIFEST).exists()
