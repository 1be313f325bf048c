"""`bench` as a process of its own, interrupted at moments drawn at random."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.fake_engine import installed
from tests.serving import logged, runs, wait_until
from tests.tiny_gguf import tiny_gguf, tiny_gguf_target

MOMENTS = 10
UP_S = 60.0


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A measurement that takes some seconds."""
    home = tmp_path_factory.mktemp("pair")
    (home / "prompts.txt").write_text("one\ntwo\nthree\nfour\n")
    words: list[object] = ["bench", home / "prompts.txt", "--engine", "llama.cpp"]
    words += ["--target", tiny_gguf_target(home / "t.gguf"), "--gamma", "1"]
    words += ["--drafter", tiny_gguf(home / "full.gguf"), "--concurrency", "2"]
    words += ["--drafter", tiny_gguf(home / "cut.gguf", head="F16", ids=range(64))]
    words += ["--server-bin", installed(home), "--repeat", "3"]
    return [sys.executable, "-m", "vocabtrim", *map(str, words)]


@contextmanager
def begun(command: list[str], directory: Path, **told: object) -> Iterator[subprocess.Popen[bytes]]:
    (directory / "tmp").mkdir()
    fake = {"log": str(directory / "log"), "answer_s": 0.05, **told}
    environment = os.environ | {
        "FAKE_ENGINE": json.dumps(fake),
        "TMPDIR": str(directory / "tmp"),
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def nothing_left(directory: Path) -> None:
    assert wait_until(lambda: not any(map(runs, logged(directory / "log"))), 5.0)
    assert not list((directory / "tmp").iterdir())


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_nothing_is_left_whenever_it_is_interrupted(
    command: list[str], tmp_path: Path, moment: int
) -> None:
    name = ("SIGINT", "SIGTERM")[moment % 2]
    # from the start of the first server to the end of the measurement, some seconds later
    after = Random(f"{name} {moment}").uniform(0.0, 4.0)
    stubborn = moment % 3 == 0
    with begun(command, tmp_path, children=moment % 4 < 2, stubborn=stubborn) as process:
        assert wait_until(lambda: bool(list((tmp_path / "tmp").iterdir())), UP_S)
        time.sleep(after)
        process.send_signal(getattr(signal, name))
        if stubborn:
            # the second one does not wait for servers that do not listen
            time.sleep(0.5)
            if process.poll() is None:
                process.send_signal(getattr(signal, name))
        said = process.communicate(timeout=60)[0].decode()
        assert process.returncode in (0, 130), said
        assert "Traceback" not in said
        nothing_left(tmp_path)
