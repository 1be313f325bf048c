"""Worker processes: outcomes in order, bounded, and gone when they should be."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import killing
from tests.calibration import put, put_records
from vocabtrim.core.errors import CalibrationError, EnvironmentFailure, TokenizerError
from vocabtrim.pipeline.counting import inputs as cutting
from vocabtrim.pipeline.counting import workers as module
from vocabtrim.pipeline.counting.crew import Alone, Work
from vocabtrim.pipeline.counting.inputs import Inputs, Place, Task
from vocabtrim.pipeline.counting.tasks import Job, Outcome
from vocabtrim.pipeline.counting.worker import TASKS_HELD
from vocabtrim.pipeline.counting.workers import Workers
from vocabtrim.tokens.id_counts import RunningCounts


@pytest.fixture
def inputs(place: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Thirty tasks, of records and of a compressed file."""
    monkeypatch.setattr(cutting, "TASK_BYTES", 1)
    for number in range(29):
        put_records(f"data/{number:02}.jsonl", 100 + 3_000 * (number % 5 == 0), seed=number)
    put("data/99.jsonl.gz", gzip.compress(put_records("plain", 100).read_bytes()))
    return Inputs.find(["data/??.jsonl*"], {"some": "*1*"})


def described(outcomes: Iterator[Outcome]) -> list[object]:
    found: list[object] = []
    for outcome in outcomes:
        sums = RunningCounts(300)
        sums.add(outcome.batch)
        vectors = {name: vector.tolist() for name, vector in sums.counts.items()}
        found.append((outcome.stop, vectors, outcome.usable, outcome.size))
    return found


@pytest.mark.parametrize("can_fork", [True, False])
def test_workers_give_what_one_process_does_in_order(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, *, can_fork: bool
) -> None:
    if can_fork and not module.CAN_FORK:
        pytest.skip("processes are not forked on this system")
    monkeypatch.setattr(module, "CAN_FORK", can_fork)
    with Alone(Job(Path("t"))) as alone:
        expected = described(alone.outcomes(Work(inputs, Place.BEGINNING)))
        facts = alone.facts
    with Workers(Job(Path("t")), 3) as workers:
        assert workers.facts == facts
        assert described(workers.outcomes(Work(inputs, Place.BEGINNING))) == expected
        running = psutil.Process().children(recursive=True)
        # where they are forked, what they are forked from is there besides
        assert len(running) == (4 if can_fork else 3)
        # they can be asked again
        again = Work(inputs, Place(28, 0, 1))
        assert described(workers.outcomes(again)) == expected[28:]
    assert killing.gone(running)


def test_only_so_many_tasks_are_under_way(inputs: Inputs) -> None:
    taken = given = most = 0

    class Watched(Work):
        def tasks(self) -> Iterator[Task]:
            nonlocal taken, most
            for task in super().tasks():
                taken += 1
                most = max(most, taken - given)
                yield task

    with Workers(Job(Path("t")), 2) as workers:
        for _ in workers.outcomes(Watched(inputs, Place.BEGINNING)):
            given += 1
    assert taken == given == 30
    assert most == 2 * TASKS_HELD


def test_a_job_that_cannot_be_done_is_refused_by_the_worker(place: Path) -> None:
    before = psutil.Process().children(recursive=True)
    with pytest.raises(TokenizerError, match="nowhere cannot be opened"):
        Workers(Job(Path("nowhere")), 2)
    with pytest.raises(CalibrationError, match="found 'bot'"):
        Workers(Job(Path("t"), role="bot"), 2)
    assert psutil.Process().children(recursive=True) == before


def test_what_a_worker_meets_is_raised_here(inputs: Inputs) -> None:
    work = Work(inputs, Place.BEGINNING)
    with Workers(Job(Path("t"), role="assistant"), 2) as workers:
        outcomes = workers.outcomes(work)
        next(outcomes)
        Path("data/25.jsonl").rename("moved")
        with pytest.raises(CalibrationError, match=r"data/25\.jsonl: it cannot be") as caught:
            list(outcomes)
    assert caught.value.path == "data/25.jsonl"


def test_a_worker_that_dies_is_an_error(inputs: Inputs) -> None:
    with Workers(Job(Path("t")), 2) as workers:
        outcomes = workers.outcomes(Work(inputs, Place.BEGINNING))
        next(outcomes)
        for child in psutil.Process().children(recursive=True):
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(EnvironmentFailure, match="a worker process ended before its work"):
            list(outcomes)


def test_a_worker_has_one_thread_that_counts(inputs: Inputs) -> None:
    with Workers(Job(Path("t")), 2) as workers:
        list(workers.outcomes(Work(inputs, Place.BEGINNING)))
        threads = [child.num_threads() for child in psutil.Process().children(recursive=True)]
    # the other one listens; what they were forked from has one at most
    assert threads == [1, 2, 2]


def test_a_worker_that_has_grown_is_replaced(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Alone(Job(Path("t"))) as alone:
        expected = described(alone.outcomes(Work(inputs, Place.BEGINNING)))
    monkeypatch.setattr(module, "GROWTH_BYTES", -(1 << 40))
    seen: set[int] = set()
    with Workers(Job(Path("t")), 2) as workers:
        found = []
        for outcome in workers.outcomes(Work(inputs, Place.BEGINNING)):
            found.append(outcome)
            seen |= {child.pid for child in psutil.Process().children(recursive=True)}
        assert described(iter(found)) == expected
        left = psutil.Process().children(recursive=True)
    # each counted a task or two, and went
    assert len(seen) > 10
    assert len(left) <= 1 + 2 + 2


def test_memory_does_not_grow_with_the_data(place: Path) -> None:
    block = put_records("block.jsonl", 4_000_000).read_bytes()
    for number in range(10):
        put(f"data/m{number}.jsonl", block)
    held: list[int] = []
    tracemalloc.start()
    with Workers(Job(Path("t")), 2) as workers:
        children = psutil.Process().children(recursive=True)
        for _ in workers.outcomes(Work(Inputs.find(["data/m?.jsonl"], {}), Place.BEGINNING)):
            # of this process, what this test takes of it: others ran in it before
            own, _ = tracemalloc.get_traced_memory()
            held.append(own + sum(one.memory_info().rss for one in children))
    tracemalloc.stop()
    assert len(held) > 10
    # what a task takes comes and goes; 27 MB are counted from the one third to the other
    third = len(held) // 3
    assert min(held[-third:]) - min(held[:third]) < 12 << 20


def test_leaving_in_mid_work_ends_all(inputs: Inputs) -> None:
    with Workers(Job(Path("t")), 2) as workers:
        next(workers.outcomes(Work(inputs, Place.BEGINNING)))
        running = psutil.Process().children(recursive=True)
        began = time.monotonic()
    assert killing.gone(running, seconds=1)
    assert time.monotonic() - began < 5
    assert threading.active_count() == 1 or not running[0].is_running()


ORPHANED = """
import os, sys, time
from pathlib import Path
from vocabtrim.pipeline.counting.tasks import Job
from vocabtrim.pipeline.counting.workers import Workers
workers = Workers(Job(Path("t")), 2)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_however_it_ends(place: Path, number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", ORPHANED], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    running = killing.descendants(process)
    assert len(running) == 3 if module.CAN_FORK else 2
    killing.kill(process, number)
    process.stdout.close()
    assert killing.gone(running, seconds=5)
