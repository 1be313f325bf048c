"""A count that is killed, at any moment and in any way, ends with the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import killing
from tests.calibration import put_records
from tests.tiny_tokenizer import write_tokenizer

SECONDS_TO_STOP = 1.0
SLACK_S = 2.0
"""What a machine that is busy with other tests may take longer."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a tokenizer in `t` and some seconds of work in `data`."""
    monkeypatch.chdir(tmp_path)
    write_tokenizer(tmp_path / "t")
    (tmp_path / "data").mkdir()
    put_records("data/a.jsonl", 4_000_000, seed=1)
    put_records("data/b.jsonl", 1_000_000, seed=2)
    return tmp_path


def command(output: str, *more: str) -> list[str]:
    return ["count", "data", "-t", "t", "-o", output, "--domain", "third", *more]


def finished(arguments: list[str]) -> str:
    """Run to the end and return what was said."""
    process = killing.start(arguments)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    return said.decode()


def test_kill_9_at_random_moments(place: Path) -> None:
    finished(command("whole", "--workers", "1"))
    draw = random.Random(7)
    part, kills = Path("out.part"), 0
    for _ in range(3):
        process = killing.start(command("out", "--workers", "2"))
        killing.wait_for(part, process)
        time.sleep(draw.uniform(0, 0.3))
        workers = killing.descendants(process)
        kills += killing.kill(process) == -signal.SIGKILL
        assert killing.gone(workers)
    assert kills
    assert not Path("out").exists()
    said = finished(command("out", "--workers", "2"))
    assert "continuing out.part from data/" in said
    assert Path("out").read_bytes() == Path("whole").read_bytes()
    assert not part.exists()


def test_an_interrupt_ends_all_at_once_and_keeps_the_part(place: Path) -> None:
    process = killing.start(command("out", "--workers", "2"))
    killing.wait_for(Path("out.part"), process)
    workers = killing.descendants(process)
    assert len(workers) >= 2
    began = time.monotonic()
    assert killing.kill(process, signal.SIGINT) == 130
    assert time.monotonic() - began < SECONDS_TO_STOP + SLACK_S
    assert killing.gone(workers, seconds=SECONDS_TO_STOP)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert "kept in out.part: run the same command again" in said
    assert "Traceback" not in said
    assert "continuing out.part" in finished(command("out", "--workers", "2", "--force"))


def test_a_worker_that_is_killed_is_one_sentence(place: Path) -> None:
    process = killing.start(command("out", "--workers", "2"))
    killing.wait_for(Path("out.part"), process)
    workers = killing.descendants(process)
    workers[-1].kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    last = said.decode().strip().splitlines()[-1]
    assert last.startswith("error: a worker process ended before its work was done")
    assert "kept in out.part: run the same command again" in last
    assert killing.gone(workers)
    finished(command("whole", "--workers", "1"))
    finished(command("out", "--workers", "1"))
    assert Path("out").read_bytes() == Path("whole").read_bytes()


def test_the_command_is_the_installed_one(place: Path) -> None:
    """What is started above differs from the command in the size of tasks only."""
    finished(command("small", "--workers", "2"))
    subprocess.run([killing.INSTALLED, *command("real")], check=True, capture_output=True)
    assert Path("small").read_bytes() == Path("real").read_bytes()
