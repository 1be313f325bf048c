"""What a calibration source gives: documents, one after the other, as a stream.

A source reads one kind of file and yields its documents with the place where
each stands, so that whatever is wrong with one can be said with file and line.
A document is ready to be counted: a source checks what it reads, and one that
exists needs no second look. Which source reads a file is decided by its
content: every source is asked, and exactly one says yes.

`find_files` turns what a user typed into a set of files; the set, not the way
it was typed, is what counts depend on.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.registry import Registry
from vocabtrim.tokens.counting import Content

SOURCES = Registry("vocabtrim.sources", "calibration source")

BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 16
ABOUT_THE_DATA = ("README", "LICENSE")
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Reading:
    """What a source must know of the count that it reads for.

    Args:
        tokenizer: Fingerprint; ids of another tokenizer are not used.
        vocab_size: V of that tokenizer.
        role: Whose turns of a conversation count.
    """

    tokenizer: str
    vocab_size: int
    role: str = "assistant"


@dataclass(frozen=True, eq=False)
class Document:
    """One document and where it stands.

    Args:
        path: The file.
        line: 1-based line at which it begins.
        stop: Bytes of the file read when it ends: progress, and where a reader
            could go on.
        content: Text, a conversation, or [T] int64 ids of the tokenizer.
        domain: The domain that the record names for itself, if any.
        warning: A substitute that was made for it, as a sentence.
    """

    path: Path
    line: int
    stop: int
    content: Content
    domain: str | None = None
    warning: str | None = None


class Source(Protocol):
    """What `sources/NAME.py` defines as `PLUGIN`."""

    @property
    def summary(self) -> str:
        """One line for `vocabtrim sources`."""
        ...

    @property
    def example(self) -> bytes:
        """A small file of this kind, with at least one document."""
        ...

    def matches(self, path: Path) -> bool:
        """Whether the content of the file is of this kind."""
        ...

    def read(self, path: Path, reading: Reading) -> Iterator[Document]:
        """Yield the documents of a file in order, never holding all of it.

        Raises:
            CalibrationError: The file is damaged; names file and line.
        """
        ...


def source_of(path: Path) -> Source:
    """Return the source that reads `path`.

    Raises:
        CalibrationError: None does, or more than one.
    """
    claims = {name: one for name, one in SOURCES.load_all().items() if one.matches(path)}
    if len(claims) != 1:
        found = " and ".join(claims) or f"none of {', '.join(SOURCES.names())}"
        raise CalibrationError(f"cannot tell what is in this file: {found} reads it", path=path)
    source: Source = next(iter(claims.values()))
    return source


def holds_records(path: Path) -> bool:
    """Whether a file is JSON objects, one a line.

    It is where its first line that is not blank parses as an object. A name
    that promises records (`.jsonl`, `.ndjson`, `.json`) is held to it: such a
    file is never taken for text, so that a damaged first line is an error and
    not a document full of braces.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES).removeprefix(BOM)
        if path.suffix.lower() in RECORD_SUFFIXES:
            return True
        if not head.lstrip().startswith(b"{"):
            return False
        stream.seek(0)
        first = next(line for line in stream if line.removeprefix(BOM).strip())
    try:
        return isinstance(json.loads(first.removeprefix(BOM)), dict)
    except (ValueError, RecursionError):
        return False


def find_files(data: Sequence[str | Path]) -> list[Path]:
    """Return the files that were asked for, each once, sorted by name.

    Args:
        data: Files; directories, searched to the bottom without hidden files and
            without what describes the data (`README*`, `LICENSE*`); patterns with
            `*`, `?`, `[…]` and `**`.

    Raises:
        CalibrationError: An argument leads to no file.
    """
    names: dict[Path, list[str]] = {}
    for argument in data:
        for path in _files_of(Path(argument).expanduser()):
            names.setdefault(path.resolve(), []).append(str(path))
    # a file that was given under two names goes by the first of them in sorted order
    return sorted(Path(min(given)) for given in names.values())


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [
            file
            for file in path.rglob("*")
            if file.is_file() and not _is_beside_the_data(file.relative_to(path))
        ]
        if not found:
            raise CalibrationError("there are no files in this directory", path=path)
        return found
    if path.exists():
        raise CalibrationError("this is neither a file nor a directory", path=path)
    pattern = str(path) if glob.has_magic(str(path)) else glob.escape(str(path))
    matching = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes hidden files too)
    if not matching:
        raise CalibrationError("no such file or directory, and no file matches it", path=path)
    return [file for one in matching for file in _files_of(Path(one))]


def _is_beside_the_data(within: Path) -> bool:
    """Whether a file of a directory is hidden, or describes the data."""
    hidden = any(part.startswith(".") for part in within.parts)
    return hidden or within.name.upper().startswith(ABOUT_THE_DATA)


def as_ids(values: Sequence[int]) -> NDArray[np.int64]:
    """Return ids as content of a document, [T] int64."""
    return np.array(values, dtype=np.int64)
