"""`OUT.part`: the answers that a run has so far, and who may go on with them.

The first line says what was asked for; another command does not continue it,
nor replace what was answered.
Each further line is an answer, in the order in which they came. A line is given
to the operating system at once, so it outlives the process (`kill -9` included);
the disk is made to keep it only at the end, so a machine that loses power may
lose the last ones. Such a torn or damaged line is no answer: it is asked for
again. When all are there, `OUT` is written in the order of the prompts, whole
or not at all, and the part is removed.

While a command writes, it holds a lock on the part, which dies with it; a file
system without locks has none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vocabtrim.core.errors import ArtifactError, EnvironmentFailure, OutputExists
from vocabtrim.core.manifest import atomic_file

HEADER = "vocabtrim generate"

_FIELDS = ("completion", "completion_ids", "finish_reason")


class Part:
    """The unfinished output of one command, as a context that holds its lock.

    Attributes:
        path: `OUT.part`.
        lines: Id of each answered prompt to its line; of two lines with one id
            the first counts.
        damaged: Lines that could not be read, and so are no answers.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self._stream = path, stream
        self.lines: dict[str, dict[str, Any]] = {}
        self.damaged = 0

    @classmethod
    def open(
        cls, output: Path, request: Mapping[str, Any], keys: Collection[str], *, force: bool
    ) -> Part:
        """Begin the part of `output`, or continue what the same command began.

        Args:
            output: What is to be written in the end.
            request: What was asked for, as JSON.
            keys: Ids to be answered; lines of others are left out.
            force: Start over where another command began it.

        Raises:
            OutputExists: Another command began it, or is writing it now.
            ArtifactError: Its first line is damaged.
            EnvironmentFailure: It cannot be written.
        """
        path = output.with_name(output.name + ".part")
        header = {HEADER: dict(request)}
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("a+b")
        part = cls(path, stream)
        try:
            part._lock()
            part._continue(header, keys, force=force)
        except BaseException:
            stream.close()
            raise
        return part

    def __enter__(self) -> Part:
        """Return the part itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, and so free the lock."""
        # every line was flushed when it was written; only one that failed then fails here again
        with contextlib.suppress(OSError):
            self._stream.close()

    def append(self, line: dict[str, Any]) -> None:
        """Write the answer to one prompt; a second answer to it is dropped.

        Raises:
            EnvironmentFailure: The disk is full or gone; what is there is kept.
        """
        if line["id"] in self.lines:
            return
        with _disk_errors(self.path):
            self._stream.write(_dump(line))
            self._stream.flush()
        self.lines[line["id"]] = line

    def finish(self, output: Path, keys: Iterable[str], *, force: bool) -> None:
        """Write `output` in the order of `keys`, and remove the part.

        Raises:
            OutputExists: `output` has appeared meanwhile.
            EnvironmentFailure: The disk is full; the part is kept.
        """
        with atomic_file(output, force=force) as temporary, temporary.open("wb") as stream:
            stream.writelines(_dump(self.lines[key]) for key in keys)
        self.path.unlink()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise OutputExists(
                self.path, "another command is writing it now; wait for that to end"
            ) from fault
        except OSError:
            # a file system without locks (some network ones); all the rest works there too
            return

    def _continue(self, header: dict[str, Any], keys: Collection[str], *, force: bool) -> None:
        self._stream.seek(0)
        data = self._stream.read()
        # behind the last newline lies what a crash left of a line
        whole = data.rfind(b"\n") + 1
        first, *rest = data[:whole].splitlines() or [data]
        if whole == 0 and _dump(header).startswith(data):
            self._begin(header)
        elif (found := _header(first, self.path)) == header:
            self._cut(whole)
            self._read(rest, keys)
        elif force or (_asked(found) is not None and not rest):
            self._begin(header)
        else:
            hint = f"{_difference(found, header)}; delete it or give --force to start over"
            raise OutputExists(self.path, hint)

    def _begin(self, header: dict[str, Any]) -> None:
        self._cut(0)
        with _disk_errors(self.path):
            self._stream.write(_dump(header))
            self._stream.flush()

    def _cut(self, length: int) -> None:
        with _disk_errors(self.path):
            self._stream.truncate(length)

    def _read(self, lines: Iterable[bytes], keys: Collection[str]) -> None:
        wanted = frozenset(keys)
        for raw in lines:
            line = _answer(raw)
            if line is None:
                self.damaged += 1
            elif line["id"] in wanted:
                self.lines.setdefault(line["id"], line)


def _answer(raw: bytes) -> dict[str, Any] | None:
    """Return a line as a document, None for what is no answer."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(line, dict) and isinstance(line.get("id"), str) and line.keys() >= {*_FIELDS}
    return line if whole else None


def _header(raw: bytes, path: Path) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as fault:
        raise ArtifactError(f"{path} is damaged ({fault!r}); delete it to start over") from fault


def _asked(found: Any) -> dict[str, Any] | None:
    """Return what a part was begun with, None where it is no part."""
    begun = found.get(HEADER) if isinstance(found, dict) else None
    return begun if isinstance(begun, dict) else None


def _difference(found: Any, header: Mapping[str, Any]) -> str:
    """Say in which option an unfinished output differs."""
    begun, asked = _asked(found), header[HEADER]
    if begun is None:
        return "it is no unfinished output of vocabtrim"
    for name in [*asked, *begun]:
        if begun.get(name) != asked.get(name):
            return f"it was begun with {name} {begun.get(name)}, not {asked.get(name)}"
    return "it was begun by another command"


def _dump(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False) + "\n").encode("utf-8")


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Say what a full or closed disk means here."""
    try:
        yield
    except OSError as fault:
        raise EnvironmentFailure(
            f"{path} cannot be written ({fault.strerror}); what is there is kept: "
            "see to the disk and run the same command again"
        ) from fault
