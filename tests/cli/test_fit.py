"""`vocabtrim fit` as a newcomer meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.fitting import write_pair, write_traffic
from vocabtrim.core.latency import Latency
from vocabtrim.core.latency_file import Latencies


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    """The words of a command without its output."""
    target, drafter = write_pair(tmp_path)
    traffic = write_traffic(tmp_path / "log.jsonl", documents=200)
    return ["fit", drafter, "--target", target, "--traffic", traffic, "--engine", "vllm"]


def test_one_command_and_the_one_to_serve(
    vocabtrim: Command, words: list[object], tmp_path: Path
) -> None:
    outcome = vocabtrim(*words, "-o", tmp_path / "out", "--json", tmp_path / "r.json")
    assert outcome.code == 0, outcome.err
    result = json.loads((tmp_path / "r.json").read_text())["fit"]
    assert outcome.out.rstrip().splitlines()[-1].strip() == result["export"]["command"]
    assert result["export"]["K"] == result["choice"]["K"] == result["trim"]["K"]
    assert f"{result['choice']['K']:,} rows" in outcome.out
    assert result["check"]["faults"] == 0


def test_errors_are_a_sentence(vocabtrim: Command, words: list[object], tmp_path: Path) -> None:
    outcome = vocabtrim(*words[:-1], "triton", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.err.startswith("error: no engine is called 'triton'; there are ")
    outcome = vocabtrim("fit", "nowhere", *words[2:], "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "'nowhere' is neither a directory" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_fault_has_its_exit_code(
    vocabtrim: Command, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocabtrim.pipeline.check import CheckResult

    monkeypatch.setattr(CheckResult, "failed", lambda _self, *, strict: True)
    outcome = vocabtrim(*words, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "nothing was exported" in outcome.out
    assert not (tmp_path / "out" / "for-vllm").exists()


def test_a_latency_can_say_that_nothing_pays(
    vocabtrim: Command, words: list[object], tmp_path: Path
) -> None:
    """Without a trace acceptance is a bound: it can advise against, and not choose K."""
    latency = tmp_path / "latency.json"
    for step, made in ((0.1, True), (100.0, False)):
        timed = Latency(1, {64: step, 256: 2 * step}, {1: 10.0, 9: 11.0}, 0.0)
        document = Latencies("t", "d", None, None, (timed,), {}).to_json()
        latency.write_text(json.dumps(document))
        outcome = vocabtrim(*words, "-o", tmp_path / f"out-{made}", "--latency", latency)
        assert outcome.code == 0, outcome.err
        assert "without a trace this is a bound" in outcome.err
        assert ("do not trim, γ = 3: do not speculate" in outcome.out) != made
        assert (tmp_path / f"out-{made}" / "for-vllm").exists() == made


def test_an_interrupted_one_goes_on_and_says_so(
    vocabtrim: Command, words: list[object], tmp_path: Path
) -> None:
    refused = vocabtrim(*words, "-o", tmp_path / "out", "--top-k", 5000)
    assert refused.code == 2
    assert "K must lie between 1 and the 267 ids there are, found 5000" in refused.err
    outcome = vocabtrim(*words, "-o", tmp_path / "out", "--top-k", 128)
    assert outcome.code == 0, outcome.err
    assert "counts of this traffic already, so it is not read again" in outcome.err
    again = vocabtrim(*words, "-o", tmp_path / "out", "--top-k", 128)
    assert again.code == 2
    assert "give --force to replace it" in again.err
