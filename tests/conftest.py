"""Fixtures that several layers share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vocabtrim.tensors.cache import cache_directory


def pytest_configure() -> None:
    """Let commands under test be interrupted.

    A job that a script starts in the background ignores SIGINT, and so would
    every process that it starts.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo_cache() -> Iterator[Path]:
    """Fix the cache for the session, so that the demo pair is fetched and built once."""
    directory = cache_directory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOCABTRIM_CACHE", str(directory))
        yield directory
