"""A directory of this machine where checkpoints that we make are kept.

An entry is built once and then only read. Its name holds a hash of what it was
made from, so an entry is never out of date; one that nobody asks for any more is
a directory to delete. Two processes that need the same entry at once share the
work: the second waits for the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vocabtrim.core.errors import EnvironmentFailure
from vocabtrim.core.manifest import atomic_directory


def cache_directory() -> Path:
    """Return `$VOCABTRIM_CACHE`, or `vocabtrim` in the user's cache directory."""
    if own := os.environ.get("VOCABTRIM_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vocabtrim"


def built_once(name: str, build: Callable[[Path], None]) -> Path:
    """Return the cache entry `name`, building it where it is not there yet.

    Args:
        name: Name of a directory; names what it is made from.
        build: Fills an empty directory; where it raises, no entry is made.

    Raises:
        EnvironmentFailure: The cache cannot be written.
    """
    entry = cache_directory() / name
    if entry.is_dir():
        return entry
    with _locked(entry):
        if not entry.is_dir():
            with atomic_directory(entry) as directory:
                build(directory)
    return entry


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Hold the lock of an entry; the kernel frees it where a holder dies."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = (entry.parent / f".{entry.name}.lock").open("w")
    except OSError as fault:
        raise EnvironmentFailure(
            f"the cache {entry.parent} cannot be written ({fault.strerror}); "
            "set VOCABTRIM_CACHE to a directory that can"
        ) from fault
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
