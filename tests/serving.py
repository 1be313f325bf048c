"""What tests of served engines share: a launcher of the fake one, prompts, limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fake_engine import installed
from vocabtrim.engines.openai.asking import Ask
from vocabtrim.engines.serving.answers import Asker
from vocabtrim.engines.serving.interrupts import Interrupts
from vocabtrim.engines.serving.launch import Launcher, Limits, Server, end_servers
from vocabtrim.engines.serving.llama_cpp import PLUGIN

QUICK = Limits(start_s=60.0, answer_s=60.0, end_s=5.0)


def tell(patch: pytest.MonkeyPatch, **told: Any) -> None:
    """Say what fake engines that are started from now on will do."""
    patch.setenv("FAKE_ENGINE", json.dumps(told))


def launcher(directory: Path, limits: Limits = QUICK) -> Launcher:
    """Return a launcher of the fake engine, which writes into `directory`."""
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    interrupts = Interrupts()
    with interrupts.held():
        program = PLUGIN.find(installed(directory), [])
    return Launcher(PLUGIN, program, scratch, limits, interrupts)


def asker(*, max_new_tokens: int = 64, timeout_s: float = 60.0) -> Asker:
    """Return what asks servers in tests."""
    return Asker(max_new_tokens, raw=False, timeout_s=timeout_s, interrupts=Interrupts())


def asks(*texts: str) -> list[Ask]:
    """Return prompts, each its own id."""
    return [Ask(text, [{"role": "user", "content": text}]) for text in texts]


@contextmanager
def ending(limits: Limits = QUICK) -> Iterator[list[Server]]:
    """Yield a list of servers, which are ended whatever happens."""
    started: list[Server] = []
    try:
        yield started
    finally:
        end_servers(started, limits, Interrupts())


def logged(log: Path) -> list[int]:
    """Return the process ids that fake engines have written."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def runs(pid: int) -> bool:
    """Whether a process runs, one that nobody has waited for not counted."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


def wait_until(said: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until something is so; return whether it came to that."""
    limit = time.monotonic() + seconds
    while not said():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True
