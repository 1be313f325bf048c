from __future__ import annotations

import signal
import sys
import time

import pytest

from tests.serving import runs, wait_until
from vocabtrim.engines.serving.group import LINES_KEPT, ProcessGroup, end_all

SLEEP = "import time; time.sleep(600)"
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
PARENT = """
import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", {child!r}], process_group={group})]
print("up", flush=True)
{then}
"""


def started(code: str) -> ProcessGroup:
    return ProcessGroup.start([sys.executable, "-c", code])


def up(group: ProcessGroup, members: int) -> list[int]:
    assert wait_until(lambda: len(group.members()) == members and group.lines() == ["up"])
    return group.members()


def test_a_willing_process_ends_at_once() -> None:
    group = started(f"print('up', flush=True)\n{SLEEP}")
    (pid,) = up(group, 1)
    began = time.monotonic()
    assert end_all([group], grace_s=20.0) == []
    assert time.monotonic() - began < 15.0
    assert not runs(pid)
    assert group.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("own_group", ["None", "0"])
def test_what_it_started_ends_with_it(own_group: str) -> None:
    code = PARENT.format(child=IGNORE + SLEEP, group=own_group, then=SLEEP)
    group = started(code)
    pids = up(group, 2)
    time.sleep(0.3)
    assert end_all([group], grace_s=0.5) == []
    assert not any(map(runs, pids))


def test_what_outlives_the_first_process_is_ended_too() -> None:
    group = started(PARENT.format(child=SLEEP, group="None", then=""))
    assert wait_until(lambda: not group.alive)
    (pid,) = group.members()
    assert end_all([group], grace_s=10.0) == []
    assert not runs(pid)


def test_a_stubborn_one_is_killed_after_its_grace() -> None:
    group = started(f"{IGNORE}print('up', flush=True)\n{SLEEP}")
    (pid,) = up(group, 1)
    began = time.monotonic()
    assert end_all([group], grace_s=0.6) == []
    assert time.monotonic() - began >= 0.6
    assert group.process.returncode == -signal.SIGKILL
    assert not runs(pid)


def test_hurry_kills_at_once() -> None:
    group = started(f"{IGNORE}print('up', flush=True)\n{SLEEP}")
    up(group, 1)
    began = time.monotonic()
    assert end_all([group], grace_s=100.0, hurry=lambda: True) == []
    assert time.monotonic() - began < 30.0


def test_several_share_one_grace_and_ending_twice_is_nothing() -> None:
    groups = [started(f"{IGNORE}print('up', flush=True)\n{SLEEP}") for _ in range(3)]
    for group in groups:
        up(group, 1)
    began = time.monotonic()
    assert end_all(groups, grace_s=1.0) == []
    assert time.monotonic() - began < 2.5
    assert end_all(groups) == []


def test_it_has_a_session_of_its_own() -> None:
    group = started("import os; print('up' if os.getsid(0) == os.getpid() else 'not', flush=True)")
    assert wait_until(lambda: not group.alive)
    assert group.lines() == ["up"]
    end_all([group])


def test_only_the_last_lines_are_kept_and_nothing_else_reaches_a_terminal() -> None:
    code = f"for i in range({LINES_KEPT + 5}): print(i)\nprint('a\\x1b[2Jb', b'\\xff'); print()"
    group = started(code)
    assert wait_until(lambda: not group.alive)
    lines = group.lines()
    assert len(lines) == LINES_KEPT
    assert lines[-2] == str(LINES_KEPT + 4)
    assert lines[-1].startswith("a [2Jb")
    end_all([group])


def test_memory_is_that_of_all_of_its_processes() -> None:
    hold = "x = bytearray(60_000_000); x[::4096] = b'1' * len(x[::4096]); "
    parent = PARENT.format(child=hold + SLEEP, group="None", then=SLEEP)
    group = started(parent)
    try:
        up(group, 2)
        assert wait_until(lambda: (group.memory() or 0) > 60_000_000)
        assert (group.peak_memory() or 0) > 60_000_000
        assert (group.peak_memory() or 0) < 200_000_000
    finally:
        end_all([group], grace_s=5.0)
    assert group.memory() is None


def test_a_program_that_is_not_there_is_no_group() -> None:
    with pytest.raises(OSError, match="No such file"):
        ProcessGroup.start(["/nowhere/llama-server"])
