"""What was taken of each input, hashed while it passes.

A manifest names its inputs by hash. Hashing whole files would read, next to a
target of 140 GB, far more than is taken of it, and would cost more than the copy
itself; so an input's hash is over what went into the output: each tensor's name
and the bytes of it that were kept. Hashing happens on another thread, one chunk
behind the writer, and adds little to the time of writing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

Chunks = Iterable[bytes | memoryview]


class Taken:
    """The digests of what passed, by input."""

    def __init__(self) -> None:
        self._digests: dict[str, dict[str, str]] = {}

    def note(self, role: str, name: str, data: bytes) -> None:
        """Count something small that was taken of an input.

        Args:
            role: The input, as the manifest calls it: "drafter".
            name: What of it, once for each input.
            data: Its bytes.
        """
        self._digests.setdefault(role, {})[name] = hashlib.sha256(data).hexdigest()

    def passing(self, role: str, name: str, chunks: Callable[[], Chunks]) -> Callable[[], Chunks]:
        """Return `chunks`, counted as they are pulled to the end.

        Args:
            role: The input that they are taken of.
            name: The tensor, once for each input.
            chunks: Called once, when its turn comes.
        """

        def watched() -> Iterator[bytes | memoryview]:
            digest = hashlib.sha256()
            with ThreadPoolExecutor(max_workers=1) as thread:
                behind: Future[None] | None = None
                for chunk in chunks():
                    if behind is not None:
                        behind.result()
                    behind = thread.submit(digest.update, chunk)
                    yield chunk
            self._digests.setdefault(role, {})[name] = digest.hexdigest()

        return watched

    def hashes(self) -> dict[str, str]:
        """Return "sha256:…" of each input, whatever the order in which things passed."""
        return {role: _combined(parts) for role, parts in sorted(self._digests.items())}


def _combined(parts: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for name, one in sorted(parts.items()):
        digest.update(f"{name}\0{one}\n".encode())
    return "sha256:" + digest.hexdigest()
