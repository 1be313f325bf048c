"""What runs in a process that counts for another: a nursery, and workers.

A large tokenizer takes a second to open and some hundred megabytes to hold. So
where processes can be forked, one opens it, before it has a thread, and forks
itself for every line to the parent that it is handed. It counts nothing, and so
what it forks is always as small as the first. Elsewhere it becomes the one
worker itself.

A worker counts what comes off its line. It always listens, so nothing that is
sent to it waits long, and it hears at once that the parent has ended, however
that ended, and ends too. Tokenizers remember words and grow by it; a worker
that has grown too far says so, and is replaced by a fresh one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn, TypeAlias

from vocabtrim.core.errors import VocabtrimError
from vocabtrim.pipeline.counting.tasks import Outcome, TaskCounter

CAN_FORK = sys.platform == "linux"
TASKS_HELD = 2
"""Tasks that a worker has at a time: the one that it counts, and the next."""

SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of a worker: one for every core is enough, and a forked process has no
threads but the one that forked it."""

Line: TypeAlias = "Connection[Any, Any]"
"""One end of what joins a worker and its parent."""


@dataclass(frozen=True)
class Answer:
    """What a worker says when it is done with a task.

    Args:
        index: Number of the task.
        outcome: What it came to, or what was met.
        spent: Whether the worker has grown and should be replaced.
    """

    index: int
    outcome: Outcome | VocabtrimError
    spent: bool


def serve(handle: int, *, fork: bool, growth: int) -> None:
    """Be the nursery; what a process that was started runs.

    Args:
        handle: Descriptor of the line to the parent. It brings the `Job`, takes
            the tokenizer's facts, or the error, and then brings a line for each
            worker that is wanted, and takes its process id.
        fork: Whether to fork the workers, or to become the only one.
        growth: Bytes by which a worker may grow.
    """
    control: Line = Connection(handle)
    try:
        counter = TaskCounter(control.recv())
    except EOFError:
        return
    except VocabtrimError as fault:
        control.send(fault)
        return
    _give_back_memory()
    # nobody asks how a worker ended, so none is left behind to be asked
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.send(counter.facts)
    with contextlib.suppress(EOFError, OSError):
        while True:
            line: Line = Connection(recv_handle(control))
            child = os.fork() if fork else 0
            if child == 0:
                if not fork:
                    control.send(os.getpid())
                control.close()
                _work(line, counter, growth)
            line.close()
            control.send(child)


def _work(line: Line, counter: TaskCounter, growth: int) -> NoReturn:
    """Count the tasks that come, until the parent ends."""
    messages: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(line, messages), daemon=True).start()
    grown = _Growth(growth)
    while True:
        index, task = pickle.loads(messages.get())  # noqa: S301 (no one else has this line)
        outcome: Outcome | VocabtrimError
        try:
            outcome = counter.count(task)
        except VocabtrimError as fault:
            outcome = fault
        answer = Answer(index, outcome, grown.too_far())
        try:
            line.send(answer)
        except OSError:
            # the parent has ended, which the listener finds out as well
            os._exit(0)


class _Growth:
    """How far this process has grown since now.

    Args:
        limit: How far it may, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fresh = self._last = _resident()

    def too_far(self) -> bool:
        """Whether it could be too far after the tasks that are on their way already."""
        if self._expected() > self._limit:
            _give_back_memory()
        spent = self._expected() > self._limit
        self._last = _resident()
        return spent

    def _expected(self) -> int:
        now = _resident()
        return now - self._fresh + TASKS_HELD * max(now - self._last, 0)


def _listen(line: Line, messages: SimpleQueue[bytes]) -> NoReturn:
    """Take what comes off the line, and end the process when the line ends."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(line.recv_bytes())
    os._exit(0)


def _resident() -> int:
    """Return the bytes of this process that are in memory, or a bound where none says."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


def _give_back_memory() -> None:
    """Return freed memory to the system, where the C library can."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
