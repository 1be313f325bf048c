"""What runs in a process: the nursery and its lines, spoken to as the parent does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import killing
from vocabtrim.core.errors import TokenizerError
from vocabtrim.pipeline.counting import worker as module
from vocabtrim.pipeline.counting.inputs import Inputs
from vocabtrim.pipeline.counting.tasks import Job, Outcome, TaskCounter
from vocabtrim.pipeline.counting.worker import (
    CAN_FORK,
    Answer,
    _give_back_memory,
    _Growth,
    _resident,
)


class Started:
    """A process that serves, and the line to it."""

    def __init__(self, growth: int = 1 << 40) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            code = (
                "from vocabtrim.pipeline.counting.worker import serve\n"
                f"serve({theirs.fileno()}, fork={CAN_FORK}, growth={growth})"
            )
            command = [sys.executable, "-c", code]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.control: Any = Connection(ours.detach())

    def worker(self) -> tuple[Any, int]:
        """Ask for a worker; return the line to it and its process id."""
        ours, theirs = socket.socketpair()
        with theirs:
            send_handle(self.control, theirs.fileno(), self.process.pid)
        return Connection(ours.detach()), self.control.recv()


@pytest.fixture
def started(place: Path) -> Iterator[Started]:
    """A nursery."""
    made = Started()
    yield made
    made.control.close()
    made.process.wait(10)


def test_it_gives_the_facts_then_workers_and_these_count(started: Started) -> None:
    started.control.send(Job(Path("t")))
    counter = TaskCounter(Job(Path("t")))
    assert started.control.recv() == counter.facts
    lines = dict(started.worker() for _ in range(2 if CAN_FORK else 1))
    (task,) = Inputs.find(["data"], {}).tasks()
    expected = counter.count(task)
    for line in lines:
        line.send((7, task))
        answer: Answer = line.recv()
        assert isinstance(answer.outcome, Outcome)
        assert (answer.index, answer.spent) == (7, False)
        assert answer.outcome.usable == expected.usable
    workers = [psutil.Process(child) for child in lines.values()]
    for line in lines:
        line.close()
    assert killing.gone(workers, seconds=5)
    # who is asked for no more ends when its parent does
    started.control.close()
    assert started.process.wait(10) == 0


def test_a_job_that_cannot_be_done_is_said(started: Started) -> None:
    started.control.send(Job(Path("nowhere")))
    assert isinstance(started.control.recv(), TokenizerError)
    assert started.process.wait(10) == 0


def test_a_parent_that_says_nothing_is_no_fault(started: Started) -> None:
    started.control.close()
    assert started.process.wait(10) == 0


def test_what_a_worker_has_grown_by(place: Path) -> None:
    started = Started(growth=-(1 << 40))
    started.control.send(Job(Path("t")))
    started.control.recv()
    line, _ = started.worker()
    (task,) = Inputs.find(["data"], {}).tasks()
    line.send((0, task))
    assert line.recv().spent
    started.control.close()
    line.close()
    assert started.process.wait(10) == 0


def test_memory_is_measured_and_given_back() -> None:
    before = _resident()
    block = bytearray(os.urandom(1 << 20) * 64)
    assert _resident() - before > 60 << 20
    assert len(block) == 64 << 20
    del block
    _give_back_memory()
    assert _resident() - before < 30 << 20


@pytest.mark.parametrize(
    ("sizes", "spent"),
    [
        ([100, 110, 111, 112, 113], [False, False, False, False]),
        # 60 now, and 20 for each of the two tasks that it has
        ([100, 120, 140, 160], [False, False, True]),
        # what is given back is not grown by
        ([100, 300, 110], [True, False]),
    ],
)
def test_growth_is_foreseen_for_the_tasks_on_their_way(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], spent: list[bool]
) -> None:
    now = [sizes[0]]
    monkeypatch.setattr(module, "_resident", lambda: now[0])
    grown = _Growth(95)
    found = []
    for size in sizes[1:]:
        now[0] = size
        found.append(grown.too_far())
    assert found == spent


def test_memory_is_given_back_before_a_worker_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(module, "_resident", lambda: now[0])
    monkeypatch.setattr(module, "_give_back_memory", lambda: now.__setitem__(0, 10))
    grown = _Growth(95)
    now[0] = 90
    assert not grown.too_far()
