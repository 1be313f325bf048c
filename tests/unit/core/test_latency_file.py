from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.benched import everything, passing, summed
from vocabtrim.core.latency import Latency, LatencyError
from vocabtrim.core.latency_file import Latencies, read_latencies
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.pair_cost import PairCost

ONE = Latency(1, {8: 0.001, 64: 0.002}, {1: 0.01, 2: 0.011}, 0.0)
COST = PairCost(StepCost(900, 90, 1800, 180), StepCost(200, 90, 400, 180), 64, shared=True)
FOUND = Latencies("big", "small", 64, COST, (ONE, replace(ONE, batch=4)), {"threads": 2})


def test_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    for found in (FOUND, replace(FOUND, V=None, cost=None)):
        path.write_text(json.dumps(found.to_json()))
        assert read_latencies(path) == found


@pytest.mark.parametrize("batches", [(), (ONE, ONE), (replace(ONE, batch=2), ONE)])
def test_batches_ascend(batches: tuple[Latency, ...]) -> None:
    with pytest.raises(LatencyError, match="each once and ascending"):
        replace(FOUND, batches=batches)


def run(drafter: str | None, K: int | None, gamma: int, rate: float, **more: Any) -> dict[str, Any]:
    """A run of a bench whose cycles emit 1.5 tokens."""
    tau = None if drafter is None else 1.5
    return {
        "target": "big",
        "drafter": drafter,
        "V": 64,
        "K": K,
        "gamma": gamma,
        "batch": 1,
        "block_efficiency": tau,
        "tokens_per_second": rate,
        "noise": 0.01,
        "head_reads_per_cycle": gamma or None,
        **more,
    }


def seconds(K: int, gamma: int) -> float:
    return 0.01 + gamma * (0.001 + 1e-5 * K)


def bench() -> list[dict[str, Any]]:
    drafting = [
        run(name, K, gamma, 1.5 / seconds(K, gamma))
        for name, K in (("full", 64), ("trimmed", 16))
        for gamma in (1, 2, 3)
    ]
    plain = run(None, None, 0, 100.0)
    return [plain, run(None, None, 0, 90.0, is_twin=True), *drafting]


def written(path: Path, runs: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"runs": runs, "bench": {"engine": "x"}}))
    return path


def test_whole_cycles_of_an_engine_are_taken_apart(tmp_path: Path) -> None:
    found = read_latencies(written(tmp_path / "b", bench()))
    (one,) = found.batches
    assert (found.target, found.drafter, found.V, found.cost) == ("big", "full", 64, None)
    assert one.token() == 0.01  # the first arm, not the one that repeats it
    for K, gamma in ((64, 1), (16, 3), (32, 2), (32, 4)):
        assert one.cycle(K, gamma) == pytest.approx(seconds(K, gamma))
    assert one.noise == 0.01  # of the A/A arm, for the fit is exact


def test_several_in_flight_share_the_rate(tmp_path: Path) -> None:
    several = [
        one | {"batch": 8, "tokens_per_second": 3 * one["tokens_per_second"]} for one in bench()
    ]
    found = read_latencies(written(tmp_path / "b", bench() + several))
    assert [one.batch for one in found.batches] == [1, 8]
    # three times the tokens for eight texts: each cycle takes 8/3 as long
    assert found.batches[1].cycle(32, 2) == pytest.approx(8 / 3 * seconds(32, 2))
    assert found.batches[1].token() == pytest.approx(8 / 3 * 0.01)


def test_a_head_that_is_read_once_is_said_to_be(tmp_path: Path) -> None:
    once = [one | {"head_reads_per_cycle": one["gamma"] and 1} for one in bench()]
    (found,) = read_latencies(written(tmp_path / "b", once)).batches
    assert found.one_step


def test_a_real_bench_document_is_read(tmp_path: Path) -> None:
    """The document that `bench` writes; one draft length is too few to explain it."""
    path = tmp_path / "b"
    path.write_text(json.dumps(summed([*everything(), passing(0, 0)]).to_json()))
    with pytest.raises(LatencyError, match="two sizes K and two draft lengths"):
        read_latencies(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "no JSON"),
        ("[]", "neither what"),
        ('{"runs": 3}', "neither what"),
        ('{"runs": []}', "no run of this bench drafted"),
        ('{"latency": {}}', "neither what"),
        (json.dumps({"runs": bench()[2:]}), "no autoregressive run at batch 1"),
        (json.dumps({"runs": [one | {"K": None} for one in bench()]}), "how many rows"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(LatencyError, match=said):
        read_latencies(tmp_path / "x")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match="no JSON can be read"):
        read_latencies(tmp_path / "absent")
