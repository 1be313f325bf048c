"""Cycle times are differences, and a run whose drafts are right is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import real_shapes
from benchmarks.random_models import SHAPES
from benchmarks.real_shapes import NotRandom, Reading, Timing, cycle_ms, merged, parsed
from vocabtrim.engines.serving.base import EngineFailure

SHAPE = SHAPES["Qwen3-0.6B"]


def test_a_cycle_is_what_a_longer_text_takes_more() -> None:
    # 7 ms besides, 3 cycles before the end that draft less and take 2 ms together
    short, long = Reading(7 + 2, 6, 3, 6, 0), Reading(7 + 2 + 12 * 5, 18, 15, 42, 0)
    assert cycle_ms(short, long, drafts=True) == 5.0
    assert cycle_ms(Reading(9, 2, 0, 0, 0), Reading(57, 14, 0, 0, 0), drafts=False) == 4.0
    with pytest.raises(EngineFailure, match="no more drafts"):
        cycle_ms(short, short, drafts=True)


def test_turns_make_one_point() -> None:
    turns = [Timing((5.0, 6.0), 300, 1, 2.0), Timing((7.0,), 100, 1, 4.0)]
    point = merged(turns, SHAPE, "Q8_0", 4096, 3)
    assert (point.cycle_ms, point.accepted, point.start_s) == (6.0, 0.005, 3.0)
    assert point.spread == pytest.approx(2 / 6)


def test_drafts_that_are_right_fail_the_run() -> None:
    with pytest.raises(NotRandom, match=r"K = 4096, γ = 3: 2\.5% of the drafts were accepted"):
        merged([Timing((5.0,), 200, 5, 1.0)], SHAPE, "Q8_0", 4096, 3)
    merged([Timing((5.0,), 200, 4, 1.0)], SHAPE, "Q8_0", 4096, 3)


def test_one_turn_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--turns", "1"])
    assert "says nothing of the noise" in capsys.readouterr().err


def test_a_missing_engine_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert real_shapes.main([]) == 2
    assert "llama-server is not on the PATH" in capsys.readouterr().err


def test_everything_is_measured_and_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.fake_engine import installed
    from tests.unit.benchmarks.test_random_models import TINY

    # no server: what it would have been is known
    def timed(_: object, target: Path, drafter: Path | None, gamma: int) -> Timing:
        assert target.is_file()
        assert (drafter is None) == (gamma == 0)
        return Timing((10.0 + (drafter is not None and drafter.stat().st_size / 1e6),), 100, 0, 1.0)

    monkeypatch.setattr(real_shapes.Bench, "timed", timed)
    words: list[object] = ["--server-bin", installed(tmp_path), "--rows", 64, 9999]
    words += ["--gammas", 1, 2, "-o", tmp_path / "docs" / "page.md", "--scratch", tmp_path]
    options = parsed([str(word) for word in words])
    found = real_shapes.run(options, {"Tiny": TINY})
    assert json.dumps(found)
    places = {(one["kind"], one["rows"], one["gamma"]) for one in found["real_shapes"]}
    assert places == {
        (kind, *arm)
        for kind in ("Q8_0", "Q4_0")
        for arm in ((0, 0), (64, 1), (64, 2), (640, 1), (640, 2))
    }
    text = (tmp_path / "docs" / "page.md").read_text()
    assert "### Tiny, Q8_0" in text
    assert "llama.cpp 4711 (a fake)" in text
    assert not list(tmp_path.glob("tmp*"))
    assert "Tiny" in capsys.readouterr().out
