"""What a calibration source is, and what it gives: blocks, then documents.

A source reads one kind of file in two steps. `blocks` cuts the file into runs of
whole records without reading what is in them; it is cheap, and one process does
it. `read` turns a block into documents, in any process, on any machine, and in
any order. So counting is parallel and resumable, and what is counted does not
depend on how many did it.

What is wrong with a record is no error: `read` gives a `Skipped` in its place,
with the place and the reason, and the count goes on. Which source reads a file
is decided by its content: every source is asked, and one must say yes. Plain
text is asked last, for all that is no binary can be read as text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.registry import Registry
from vocabtrim.sources.files import DataFile
from vocabtrim.tokens.counting import Content

SOURCES = Registry(
    "vocabtrim.sources",
    "calibration source",
    beside=frozenset(
        {
            "base",
            "chunks",
            "conversations",
            "cutting",
            "files",
            "heads",
            "records",
            "server_logs",
            "streams",
            "tables",
            "values",
        }
    ),
)

BLOCK_BYTES = 2 << 20
LONGEST_RECORD = 64 << 20

LAST_ASKED = "text"
NOT_READ = {
    rb"BZh[1-9]1AY&SY": "bzip2: unpack it first (bunzip2)",
    rb"\xfd7zXZ\0": "xz: unpack it first (unxz)",
    rb"PK\x03\x04": "zip: unpack it first (unzip)",
    rb"\xff\xfe|\xfe\xff": "UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)",
}
"""Beginnings of files that people have and no source reads, and what to do."""


@dataclass(frozen=True)
class Reading:
    """What a source must know of the count that it reads for.

    Args:
        tokenizer: Fingerprint; ids of another tokenizer are not used.
        vocab_size: V of that tokenizer.
        role: Whose turns of a conversation count.
        field: The field of a record to read, whatever else it has; dots lead
            into objects, numbers into lists.
    """

    tokenizer: str
    vocab_size: int
    role: str = "assistant"
    field: str | None = None


@dataclass(frozen=True, eq=False)
class Document:
    """One document and where it stands.

    Args:
        file: Name of the file.
        line: 1-based line (row of a table) at which it begins.
        content: Text, a conversation, or [T] int64 ids of the tokenizer.
        domain: The domain that the record names for itself, if any.
        warning: A substitute that was made for it, as a sentence.
    """

    file: str
    line: int
    content: Content
    domain: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A record that was left out.

    Args:
        file: Name of the file.
        line: 1-based line (row of a table) at which it begins.
        reason: What is wrong with it, and what to do, as a sentence without an end.
            The same for all records that have the same fault: they are counted by it.
    """

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class Block:
    """A run of whole records of one file.

    Args:
        file: The file.
        source: Registry name of the source that reads it.
        start: Where it begins: in bytes that the file holds, or in rows.
        stop: Where it ends, and where `blocks` goes on.
        line: 1-based line (row) at which it begins.
        lines: Line ends (rows) in it; `line + lines` is where the next begins.
        data: Its bytes; None where `read` fetches them.
        fault: What stands here instead of records: too long, or damaged.
    """

    file: DataFile
    source: str
    start: int
    stop: int
    line: int
    lines: int
    data: bytes | None = dataclasses.field(default=None, repr=False)
    fault: Skipped | None = None

    def without_data(self) -> Block:
        """Return the same block, small enough to be sent anywhere."""
        return dataclasses.replace(self, data=None)

    def with_data(self, data: bytes) -> Block:
        """Return the same block with other bytes to read from."""
        return dataclasses.replace(self, data=data)

    def fetched(self) -> bytes:
        """Return its bytes, from the file where it does not hold them."""
        return self.file.read_range(self.start, self.stop) if self.data is None else self.data


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

    def matches(self, file: DataFile) -> bool:
        """Whether the content of the file is of this kind."""
        ...

    def blocks(self, file: DataFile, start: int = 0, line: int = 1) -> Iterator[Block]:
        """Cut a file, from its beginning or from the `stop` of a block on.

        Where it is cut depends on the content alone, and on `start`.

        Raises:
            CalibrationError: The file as a whole cannot be read.
            OSError: Reading failed.
        """
        ...

    def read(self, block: Block, reading: Reading) -> Iterator[Document | Skipped]:
        """Yield the documents of a block in order, and what is left out.

        A block with a `fault` gives that alone.

        Raises:
            CalibrationError: It cannot be read as asked at all.
        """
        ...


def source_name_of(file: DataFile) -> str:
    """Return the registry name of the source that reads a file.

    Raises:
        CalibrationError: None does, or more than one.
        MissingExtra: It is compressed, and a package is not installed.
    """
    every = SOURCES.load_all()
    claims = [name for name, one in every.items() if name != LAST_ASKED and one.matches(file)]
    for beginning, kind in NOT_READ.items():
        if not claims and re.match(beginning, file.head):
            raise CalibrationError(f"this is {kind}", path=file.name)
    if not claims and every[LAST_ASKED].matches(file):
        claims = [LAST_ASKED]
    if len(claims) != 1:
        found = " and ".join(claims) or f"none of {', '.join(every)}"
        verb = "read" if claims else "reads"
        raise CalibrationError(
            f"cannot tell what is in this file: {found} {verb} it", path=file.name
        )
    return claims[0]


def source_of(file: DataFile) -> Source:
    """Return the source that reads a file; see `source_name_of`."""
    source: Source = SOURCES.load(source_name_of(file))
    return source
