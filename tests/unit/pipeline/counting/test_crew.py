"""Work is taken once and as a whole; a crew of one counts it in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.calibration import put_records
from vocabtrim.pipeline.counting import crew as module
from vocabtrim.pipeline.counting import inputs as cutting
from vocabtrim.pipeline.counting.crew import Alone, Work
from vocabtrim.pipeline.counting.inputs import Inputs, Place, Task
from vocabtrim.pipeline.counting.tasks import Job


@pytest.fixture
def inputs(place: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Some files, each a task."""
    for number in range(7):
        put_records(f"data/{number}.jsonl", 100, seed=number)
    monkeypatch.setattr(cutting, "TASK_BYTES", 1)
    return Inputs.find(["data/?.jsonl"], {})


def places(tasks: Iterator[Task]) -> list[int]:
    return [task.stop.file for task in tasks]


def test_looking_at_work_takes_nothing_from_it(inputs: Inputs) -> None:
    expected = places(inputs.tasks())
    assert len(expected) == 7
    work = Work(inputs, Place.BEGINNING)
    assert not work.is_little()
    assert not work.is_little()
    assert places(work.tasks()) == expected


@pytest.mark.parametrize(("left", "little"), [(3, True), (4, False), (0, True)])
def test_what_is_little(inputs: Inputs, left: int, *, little: bool) -> None:
    work = Work(inputs, Place(7 - left, 0, 1))
    assert work.is_little() == little
    assert len(places(work.tasks())) == left
    assert module.SMALL_TASKS == 4


def test_tasks_pass_once(inputs: Inputs) -> None:
    seen: list[Task] = []

    def watched(tasks: Iterator[Task]) -> Iterator[Task]:
        for task in tasks:
            seen.append(task)
            yield task

    work = Work(inputs, Place.BEGINNING, watched)
    work.is_little()
    assert list(work.tasks()) == seen
    assert len(seen) == 7


def test_alone_counts_in_order_and_when_asked(inputs: Inputs) -> None:
    with Alone(Job(Path("t"))) as crew:
        assert crew.facts.vocab_size > 256
        outcomes = crew.outcomes(Work(inputs, Place.BEGINNING))
        assert [outcome.stop for outcome in outcomes] == [task.stop for task in inputs.tasks()]
