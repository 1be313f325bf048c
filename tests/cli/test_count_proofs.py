"""The promises of `count` on data of real size: bounded memory, and kills at any moment.

Both take minutes and so are proofs. They use the command as it is installed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests import killing
from tests.calibration import put_records
from tests.real_tokenizers import real_directory

pytestmark = pytest.mark.skipif(
    "VOCABTRIM_QUIET" not in os.environ,
    reason="takes minutes and times itself: set VOCABTRIM_QUIET=1 on a machine that is idle",
)

KILLS = 10
SECONDS_LOST = 10.0
GIGABYTE = 10**9


def run(arguments: Sequence[str | Path]) -> float:
    """Run `vocabtrim ARGUMENTS…` to its end and return the seconds that it took."""
    began = time.monotonic()
    subprocess.run([killing.INSTALLED, *map(str, arguments)], check=True, capture_output=True)
    return time.monotonic() - began


def killed(arguments: Sequence[str | Path], seconds: float) -> bool:
    """Run `vocabtrim ARGUMENTS…`, kill it then, and return whether it had not ended."""
    process = subprocess.Popen(
        [killing.INSTALLED, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        workers = killing.descendants(process)
        killing.kill(process, signal.SIGKILL)
        assert killing.gone(workers)
        return True
    return False


@pytest.mark.proof
def test_ten_kills_from_a_tenth_to_nine_tenths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a resumed run may take is what was left: on a machine that does nothing else."""
    monkeypatch.chdir(tmp_path)
    put_records("block", 16_000_000)
    Path("data").mkdir()
    for number in range(3):
        os.link("block", f"data/{number}.jsonl")
    command = ["count", "data", "-t", real_directory("smollm2"), "--domain", "third", "-o"]
    whole = run([*command, "whole"])
    expected = Path("whole").read_bytes()
    kills = 0
    for kill in range(KILLS):
        Path("out").unlink(missing_ok=True)
        before = (0.1 + 0.8 * kill / (KILLS - 1)) * whole
        while not killed([*command, "out"], before):
            # the machine was faster this time
            Path("out").unlink()
            before *= 0.8
        kills += 1
        after = run([*command, "out"])
        assert Path("out").read_bytes() == expected
        assert not Path("out.part").exists()
        assert after < whole - before + SECONDS_LOST, f"killed after {before:.1f} of {whole:.1f} s"
    assert kills == KILLS


@pytest.mark.proof
def test_two_gigabytes_take_less_than_one_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the largest tokenizer, V = 262,145, and words that no tokenizer can remember.

    Memory that processes share counts once.
    """
    monkeypatch.chdir(tmp_path)
    put_random_words("block", 64_000_000)
    Path("data").mkdir()
    for number in range(32):
        os.link("block", f"data/{number}.jsonl")
    tokenizer = real_directory("gemma3")
    process = subprocess.Popen(
        [killing.INSTALLED, "count", "data", "-t", tokenizer, "-o", "out", "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, held_by(process))
        time.sleep(0.1)
    assert process.returncode == 0
    assert 0 < peak < GIGABYTE


def held_by(process: subprocess.Popen[bytes]) -> int:
    """Return the bytes of memory that a process and those it started hold together."""
    held = 0
    for one in (process.pid, *(child.pid for child in killing.descendants(process))):
        try:
            held += psutil.Process(one).memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return held


def put_random_words(name: str, size: int) -> None:
    """Write records of words of seven random letters, 2,000 characters each."""
    draw = np.random.default_rng(0)
    letters = draw.integers(ord("a"), ord("z") + 1, size=(size // 2000, 2000), dtype=np.uint8)
    letters[:, 7::8] = ord(" ")
    with Path(name).open("wb") as stream:
        for row in letters:
            stream.write(b'{"text": "' + row.tobytes() + b'"}\n')
