"""A process and all that it starts, ended together.

An engine is several processes: a server, a core, a worker for each device. Each
engine gets a session of its own, so a Ctrl-C at the terminal reaches only us, and
everything that it starts can be found again and be ended, also what outlives the
process that was started. Ending asks first (SIGTERM) and then kills; both go to
the process group, and on Linux to every process of the session besides.

Output is kept in memory, the last lines of it; no file is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LINES_KEPT = 400
POLL_S = 0.02
LEFTOVERS_S = 5.0
"""How long to wait for processes that were killed to be gone."""

_PROC = Path("/proc")


@dataclass(eq=False)
class ProcessGroup:
    """What one command started; made by `start`.

    Args:
        process: The first process: leader of its session and of its group.
    """

    process: subprocess.Popen[bytes]
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    _reader: threading.Thread | None = None

    @classmethod
    def start(
        cls, words: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> ProcessGroup:
        """Start a command.

        Args:
            words: Its command line.
            environment: All of its environment; None is ours.

        Raises:
            OSError: There is no such program, or it cannot be run.
        """
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        group = cls(process)
        group._reader = threading.Thread(target=group._read, daemon=True, name="engine output")
        group._reader.start()
        return group

    @property
    def alive(self) -> bool:
        """Whether the first process runs."""
        return self.process.poll() is None

    def lines(self) -> list[str]:
        """Return the last lines of output, oldest first."""
        if not self.alive and self._reader is not None:
            self._reader.join(timeout=1.0)
        return list(self._lines)

    def members(self) -> list[int]:
        """Return the processes of the session that still run.

        Where there is no `/proc`, only the first one is known.
        """
        if not _has_proc():
            return [self.process.pid] if self.alive else []
        found = (_state(entry) for entry in _PROC.iterdir() if entry.name.isdigit())
        return [
            one.pid
            for one in found
            if one is not None and one.session == self.process.pid and one.runs
        ]

    def peak_memory(self) -> int | None:
        """Return the peak of resident bytes, summed over the processes; None if unknown."""
        return self._sum("status", "VmHWM:")

    def memory(self) -> int | None:
        """Return the bytes held now, shared pages by share; None if unknown."""
        return self._sum("smaps_rollup", "Pss:")

    def send(self, number: signal.Signals) -> None:
        """Signal the group, and the groups that others of the session have made."""
        groups = {self.process.pid} if not _has_proc() else set()
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                groups.add(os.getpgid(pid))
        for one in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(one, number)

    def close(self) -> None:
        """Let go of the output of processes that have ended."""
        if self._reader is not None:
            self._reader.join(timeout=1.0)
            # a reader that goes on has its stream from a process that could not be ended
            if not self._reader.is_alive() and self.process.stdout is not None:
                self.process.stdout.close()

    def _sum(self, file: str, field_name: str) -> int | None:
        sizes = [_kilobytes(_PROC / str(pid) / file, field_name) for pid in self.members()]
        known = [size for size in sizes if size is not None]
        return 1024 * sum(known) if known else None

    def _read(self) -> None:
        stream = self.process.stdout
        if stream is None:
            return
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                # what a program prints goes to a terminal
                self._lines.append("".join(c if c.isprintable() else " " for c in text))


def end_all(
    groups: Sequence[ProcessGroup],
    grace_s: float = 10.0,
    hurry: Callable[[], bool] = lambda: False,
) -> list[int]:
    """End every process of some groups, all at the same time; safe to call again.

    Args:
        groups: Those to end.
        grace_s: Seconds to end by themselves.
        hurry: Whether to kill at once; asked again and again.

    Returns:
        Processes that could not be ended.
    """
    limit = time.monotonic() + grace_s
    for group in groups:
        group.send(signal.SIGTERM)
    while _left(groups) and time.monotonic() < limit and not hurry():
        time.sleep(POLL_S)
    limit = time.monotonic() + LEFTOVERS_S
    while _left(groups) and time.monotonic() < limit:
        for group in groups:
            group.send(signal.SIGKILL)
        time.sleep(POLL_S)
    for group in groups:
        group.close()
    return _left(groups)


def _left(groups: Sequence[ProcessGroup]) -> list[int]:
    for group in groups:
        # reaps the first process, which is a zombie until then
        group.process.poll()
    return [pid for group in groups for pid in group.members()]


def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


@dataclass(frozen=True)
class _State:
    pid: int
    session: int
    runs: bool


def _state(entry: Path) -> _State | None:
    """Read a process's line of facts; None where it is gone."""
    try:
        text = (entry / "stat").read_text(errors="replace")
    except OSError:
        return None
    # the name stands in brackets and may hold anything, brackets included
    state, _parent, _group, session = text[text.rindex(")") + 1 :].split()[:4]
    return _State(int(entry.name), int(session), state not in ("Z", "X"))


def _kilobytes(path: Path, field_name: str) -> int | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    found = [line for line in text.splitlines() if line.startswith(field_name)]
    return int(found[0].split()[1]) if found else None
