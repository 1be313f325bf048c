"""What tells a file from another: at once while counting, for good in a manifest.

While a count is under way, a file is the same as long as its size and time of
change are. The manifest has hashes of the contents. They are computed beside
the counting, in one thread: hashing needs no lock of the interpreter, and reads
what the counting has just read or will read next.

Of a URL the manifest has what its server says of it, for reading it twice may
cost money. Standard input is hashed as it goes by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from vocabtrim.pipeline.counting.inputs import Task, unreadable
from vocabtrim.sources.files import STDIN, DataFile

SLICE_BYTES = 1 << 20
NOT_HASHED = "not hashed: standard input was compressed, or not read as a whole"

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files of a tokenizer on which counts depend."""


def identity(file: DataFile) -> str:
    """Return what changes when a file does; empty for standard input."""
    if file.name == STDIN:
        return ""
    if file.is_url:
        return f"{file.size} bytes, {_told_by_the_server(file)}"
    try:
        status = Path(file.name).stat()
    except OSError as fault:
        return f"not to be had: {fault.strerror}"
    return f"{status.st_size} bytes, changed at {status.st_mtime_ns} ns"


def tokenizer_identity(path: Path) -> str:
    """Return a hash of all files of a tokenizer on which counts depend.

    Args:
        path: A directory with a `tokenizer.json`, or that file.
    """
    directory = path if path.is_dir() else path.parent
    files = {path, *(directory / name for name in TOKENIZER_FILES)}
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)} ".encode() + content)
    return f"sha256:{digest.hexdigest()[:16]}"


class Hashes:
    """Hashes of files, computed while the context is open.

    Args:
        files: What is hashed.
    """

    def __init__(self, files: Iterable[DataFile]) -> None:
        self._files = tuple(files)
        self._found: dict[str, str] = {}
        self._fault: OSError | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._stream = hashlib.sha256()
        self._seen = 0

    def __enter__(self) -> Hashes:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, finished or not."""
        self._stop.set()
        self._thread.join()

    def passing(self, tasks: Iterator[Task]) -> Iterator[Task]:
        """Yield tasks, and hash what they hold of standard input."""
        for task in tasks:
            for piece in task.pieces:
                block = piece.block
                if block.file.name == STDIN and block.data is not None:
                    if block.start == self._seen:
                        self._stream.update(block.data)
                        self._seen = block.start + len(block.data)
                    else:
                        self._seen = -1
            yield task

    def wait(self) -> dict[str, str]:
        """Return the name of each file with what it is known by, when all are there.

        Raises:
            CalibrationError: A file cannot be read any more.
        """
        # in slices, for a thread that is waited for without end hears no interrupt
        while self._thread.is_alive():
            self._thread.join(0.1)
        if self._fault is not None:
            raise unreadable(str(self._fault.filename), self._fault) from self._fault
        return {file.name: self._found.get(file.name) or self._other(file) for file in self._files}

    def _run(self) -> None:
        try:
            for file in self._files:
                if not file.is_url and file.name != STDIN:
                    self._hash(file)
        except OSError as fault:
            self._fault = fault

    def _hash(self, file: DataFile) -> None:
        digest = hashlib.sha256()
        with Path(file.name).open("rb") as stream:
            while piece := stream.read(SLICE_BYTES):
                if self._stop.is_set():
                    return
                digest.update(piece)
        self._found[file.name] = f"sha256:{digest.hexdigest()}"

    def _other(self, file: DataFile) -> str:
        if file.is_url:
            return _told_by_the_server(file)
        whole = self._seen > 0 and file.compression is None
        return f"sha256:{self._stream.hexdigest()}" if whole else NOT_HASHED


def _told_by_the_server(file: DataFile) -> str:
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(file.name)
    return f"fsspec:{filesystem.ukey(path)}"
