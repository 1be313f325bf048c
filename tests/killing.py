"""A count in a process of its own, to be killed: the real command on small tasks.

The command is the installed one; only the size of tasks and the time between
checkpoints are those of a test, so that seconds of work are as many steps as
minutes are otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

INSTALLED = Path(sys.executable).with_name("vocabtrim")
"""The command as it is installed, whether its environment is active or not."""

COMMAND = """
import sys
from vocabtrim.cli.main import run
from vocabtrim.pipeline.counting import checkpoint, inputs
from vocabtrim.sources import cutting, jsonl
inputs.TASK_BYTES = {task_bytes}
jsonl.PLUGIN = jsonl.Jsonl(sizes=cutting.Sizes(block={task_bytes}))
checkpoint.SECONDS_BETWEEN = {seconds}
sys.exit(run(sys.argv[1:]))
"""


def start(
    arguments: Sequence[str | Path], *, task_bytes: int = 20_000, seconds: float = 0.02
) -> subprocess.Popen[bytes]:
    """Start `vocabtrim ARGUMENTS…` with small tasks."""
    code = COMMAND.format(task_bytes=task_bytes, seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes that a process has started, and theirs."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_for(path: Path, process: subprocess.Popen[bytes], *, seconds: float = 60) -> None:
    """Wait until a file is there, or the process has ended."""
    limit = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)


def gone(processes: Sequence[psutil.Process], *, seconds: float = 10) -> bool:
    """Return whether all processes end within so many seconds."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.is_running() and one.status() != "zombie"]


def kill(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> int:
    """Send a signal and return what the process ended with."""
    os.kill(process.pid, number)
    return process.wait(60)
