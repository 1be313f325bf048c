from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from tests.tiny import tiny_eagle3
from tests.tiny_models import V, write_target
from vocabtrim.core.errors import DecodeError, OutputExists
from vocabtrim.core.latency_file import read_latencies
from vocabtrim.pipeline.bench_micro import bench_micro


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_target(tmp_path / "target", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "drafter")
    return tmp_path


def test_a_pair_is_timed_and_written(place: Path) -> None:
    ticks, done = count(), []
    result = bench_micro(
        place / "target",
        place / "drafter",
        place / "latency.json",
        target_name="big",
        gammas=[1, 2],
        batches=[2, 1],
        rounds=3,
        context=4,
        progress=lambda *given: done.append(given),
        clock=lambda: float(next(ticks)),
    )
    found = read_latencies(place / "latency.json")
    assert found == result.latencies
    assert (found.target, found.drafter, found.V) == ("big", "drafter", V)
    assert [one.batch for one in found.batches] == [1, 2]
    for one in found.batches:
        # a tick between any two looks at the clock
        assert set(one.draft.values()) == set(one.verify.values()) == {1.0}
        assert list(one.verify) == [1, 2, 3]
        assert sorted(one.draft) == [V >> 4, V >> 2, V]
    assert found.cost is not None
    assert found.cost.head_rows == V
    assert found.conditions["context"] == 4
    assert done == [(1, 3), (2, 3), (3, 3)]
    lines = result.lines()
    assert lines[0].startswith("latencies  drafter for big")
    assert sum(line.startswith("batch ") for line in lines) == 2


def test_an_output_is_not_overwritten(place: Path) -> None:
    (place / "latency.json").write_text("mine")
    with pytest.raises(OutputExists):
        bench_micro(place / "target", place / "drafter", place / "latency.json")


@pytest.mark.parametrize("wrong", [{"rounds": 1}, {"batches": []}])
def test_nothing_to_time(place: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(DecodeError, match="needs two rounds, to tell how noisy they are"):
        bench_micro(place / "target", place / "drafter", place / "latency.json", **wrong)  # type: ignore[arg-type]
