"""Worker processes of this machine: a crew that uses all its cores.

Each worker counts one task and holds the next; its answers are put back into
order here, and only `TASKS_HELD` tasks a worker are under way, so that memory is
bounded. A task of a local file is sent without its data, which a worker reads
for itself faster. A worker that has grown too large is replaced when it has
done what it holds.

Workers end with this process, however it ends, and all at once when they are no
longer needed, for they hold nothing that would have to be put away. This process
itself is never forked: it may have threads. What runs in them is in `worker.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from types import TracebackType
from typing import Any, Self

from vocabtrim.core.errors import EnvironmentFailure, VocabtrimError
from vocabtrim.pipeline.counting.crew import Work
from vocabtrim.pipeline.counting.inputs import Task
from vocabtrim.pipeline.counting.tasks import Job, Outcome
from vocabtrim.pipeline.counting.worker import (
    CAN_FORK,
    SINGLE_THREADED,
    TASKS_HELD,
    Answer,
    Line,
)
from vocabtrim.tokens.counting import TokenizerFacts

GROWTH_BYTES = 208 << 20
"""What the words that a tokenizer remembers may take in a worker."""

SECONDS_TO_END = 0.5

LOST = (
    "a worker process ended before its work was done (a system short of memory ends "
    "what takes most): try fewer --workers"
)


@dataclass(eq=False)
class Worker:
    """A process that counts.

    Args:
        line: To it.
        process_id: Of it.
        tasks: How many it has been sent and not answered.
        spent: Whether it gets no more, and is replaced.
    """

    line: Line
    process_id: int
    tasks: int = 0
    spent: bool = False


class Workers:
    """Processes that count, as a context; they end with it.

    Args:
        job: What is asked for.
        number: How many, 1 or more.

    Raises:
        VocabtrimError: The job cannot be done, as of `TaskCounter`.
        EnvironmentFailure: A process could not be started, or was lost.
    """

    def __init__(self, job: Job, number: int) -> None:
        self._job, self._number = job, number
        self._started: list[tuple[subprocess.Popen[bytes], Line]] = []
        self._workers: list[Worker] = []
        try:
            self.facts: TokenizerFacts = self._start()
            while len(self._workers) < number:
                self._add()
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all workers, whatever they are at."""
        self._end()

    def outcomes(self, work: Work) -> Iterator[Outcome]:
        """Count, and yield the outcomes in the order of the data.

        Raises:
            VocabtrimError: What a worker met.
            EnvironmentFailure: A worker was lost.
        """
        tasks = enumerate(work.tasks())
        early: dict[int, Outcome] = {}
        sent = given = 0
        more = True
        while more or given < sent:
            # not more in all, either: one slow task must not make the others pile up
            while more and sent - given < TASKS_HELD * self._number and (idle := self._idle()):
                numbered = next(tasks, None)
                more = numbered is not None
                if numbered is not None:
                    index, task = numbered
                    _send(idle.line, (index, _light(task)))
                    idle.tasks += 1
                    sent += 1
            for answer in self._answers():
                if isinstance(answer.outcome, VocabtrimError):
                    raise answer.outcome
                early[answer.index] = answer.outcome
            while given in early:
                yield early.pop(given)
                given += 1

    def _idle(self) -> Worker | None:
        """Return the worker that has the fewest tasks and takes one more, if any does."""
        takers = [one for one in self._workers if not one.spent and one.tasks < TASKS_HELD]
        return min(takers, key=lambda one: one.tasks, default=None)

    def _answers(self) -> Iterator[Answer]:
        """Wait for workers, yield what they say, and replace those that are spent."""
        busy = [worker for worker in self._workers if worker.tasks]
        ready = wait([worker.line for worker in busy])
        for worker in (one for one in busy if one.line in ready):
            answer: Answer = _receive(worker.line)
            worker.tasks -= 1
            worker.spent |= answer.spent
            if worker.spent and not worker.tasks:
                worker.line.close()
                self._workers.remove(worker)
                self._add()
            yield answer

    def _add(self) -> None:
        """Add a worker."""
        if not CAN_FORK and self._workers:
            self._start()
        nursery, control = self._started[-1]
        ours, theirs = socket.socketpair()
        line: Line = Connection(ours.detach())
        with theirs:
            try:
                send_handle(control, theirs.fileno(), nursery.pid)
            except OSError as fault:
                line.close()
                raise EnvironmentFailure(LOST) from fault
        self._workers.append(Worker(line, _receive(control)))

    def _start(self) -> TokenizerFacts:
        """Start a process that opens the tokenizer, and return what it says of it."""
        ours, theirs = socket.socketpair()
        handle = theirs.fileno()
        code = (
            "from vocabtrim.pipeline.counting.worker import serve; "
            f"serve({handle}, fork={CAN_FORK}, growth={GROWTH_BYTES})"
        )
        with theirs:
            control: Line = Connection(ours.detach())
            try:
                process = subprocess.Popen(
                    # -P: a file of the working directory is not to be taken for a module
                    [sys.executable, "-P", "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[handle],
                    # its own group: an interrupt on the terminal is for this process alone
                    process_group=0,
                    env={**os.environ, **SINGLE_THREADED, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
            except OSError as fault:
                control.close()
                raise EnvironmentFailure(
                    f"no worker process could be started ({fault.strerror}): try --workers 1"
                ) from fault
        self._started.append((process, control))
        _send(control, self._job)
        facts: TokenizerFacts = _receive(control)
        return facts

    def _end(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process_id, signal.SIGKILL)
            worker.line.close()
        for process, control in self._started:
            control.close()
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _send(line: Line, message: object) -> None:
    try:
        line.send(message)
    except OSError as fault:
        raise EnvironmentFailure(LOST) from fault


def _receive(line: Line) -> Any:
    """Return what a process says; what it met before it could work is raised."""
    try:
        answer = line.recv()
    except (EOFError, OSError) as fault:
        raise EnvironmentFailure(LOST) from fault
    if isinstance(answer, VocabtrimError):
        raise answer
    return answer


def _light(task: Task) -> Task:
    """Leave the data behind where a worker can read it itself, which is faster than a line."""
    local = all(piece.block.file.seekable and not piece.block.file.is_url for piece in task.pieces)
    return task.without_data() if local else task
