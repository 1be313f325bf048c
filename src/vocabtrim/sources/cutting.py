"""A file cut into blocks of whole records, in one pass and bounded memory.

What a record is, a `Scanner` knows: it follows the structure through the bytes
and says where records end. From where a block begins, it takes as many whole
records as fit into `block_bytes`, or the first one alone where none does. So
where a file is cut depends on its content only, and cutting can begin anew at
the end of any block. A record longer than `longest` is passed over; a block
without data stands in its place.

A line ends with a line feed, a carriage return, or both, as everywhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vocabtrim.sources.base import BLOCK_BYTES, LONGEST_RECORD, Block, Skipped
from vocabtrim.sources.files import DataFile
from vocabtrim.sources.streams import Damaged, read_up_to


class Ends(NamedTuple):
    """Positions in a chunk right after the first and the last record that ends in it."""

    first: int
    last: int


class Scanner(Protocol):
    """Follows the structure of records through a file, from the beginning of one on."""

    def feed(self, chunk: bytes) -> Ends | None:
        """Take the next bytes; None where no record ends in them."""
        ...


class LineScanner:
    """Records are lines."""

    def __init__(self) -> None:
        self._open_return = False

    def feed(self, chunk: bytes) -> Ends | None:
        """Take the next bytes; None where no line ends in them."""
        returned = self._open_return and not chunk.startswith(b"\n")
        self._open_return = chunk.endswith(b"\r")
        last = chunk.rfind(b"\n") + 1
        if last:
            first = 0 if returned else chunk.find(b"\n") + 1
            return Ends(first, last)
        # at its end a return may be the half of a line end
        last = chunk.rfind(b"\r", 0, -1) + 1
        if last:
            return Ends(0 if returned else chunk.find(b"\r") + 1, last)
        return Ends(0, 0) if returned else None


@dataclass(frozen=True)
class Sizes:
    """How long blocks and records may be.

    Args:
        block: Bytes of a block.
        longest: Bytes of a record; at least those of a block.
    """

    block: int = BLOCK_BYTES
    longest: int = LONGEST_RECORD


SIZES = Sizes()


def line_ends(data: bytes) -> int:
    """Return how many lines end in `data`."""
    ends = data.count(b"\n")
    return ends + data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else ends


def cut(
    file: DataFile,
    source: str,
    start: int,
    line: int,
    *,
    scanner: Callable[[int], Scanner],
    sizes: Sizes,
) -> Iterator[Block]:
    """Cut a file into blocks of whole records.

    Args:
        file: The file.
        source: Registry name of the source that reads it.
        start: Where to begin: 0, or the `stop` of a block.
        line: The line there.
        scanner: Makes what follows the records from a position on.
        sizes: How long blocks and records may be.
    """
    cutter = _Cutter(file, source, start, line)
    try:
        with file.open(start) as stream:
            yield from cutter.cut(stream, scanner, sizes)
    except Damaged as fault:
        if cutter.rest:
            yield cutter.block(cutter.rest)
        yield damaged(file, source, cutter.position, cutter.line, fault)


def damaged(file: DataFile, source: str, position: int, line: int, fault: Damaged) -> Block:
    """Return the block that ends a file of which no more can be read."""
    reason = f"{fault}; what comes before that is counted"
    return Block(file, source, position, position, line, 0, fault=Skipped(file.name, line, reason))


class _Cutter:
    """Where cutting has come to.

    Attributes:
        position: Where the next block begins.
        line: The line there.
        rest: What has been read from there on.
    """

    def __init__(self, file: DataFile, source: str, position: int, line: int) -> None:
        self.file, self.source = file, source
        self.position, self.line = position, line
        self.rest = b""

    def cut(
        self, stream: io.BufferedReader, scanner: Callable[[int], Scanner], sizes: Sizes
    ) -> Iterator[Block]:
        while True:
            ended = not self._fill(stream, sizes.block)
            if ended:
                if self.rest:
                    yield self.block(self.rest)
                return
            follows = scanner(self.position)
            ends = follows.feed(self.rest[: sizes.block])
            if ends is not None:
                yield self.block(self.rest[: ends.last])
            else:
                yield self._one_record(stream, follows, sizes)

    def _one_record(self, stream: io.BufferedReader, follows: Scanner, sizes: Sizes) -> Block:
        """Return the block of a record that is longer than a block should be."""
        seen = sizes.block
        while seen < sizes.longest:
            size = min(2 * seen, sizes.longest)
            ended = not self._fill(stream, size)
            ends = follows.feed(self.rest[seen:size])
            if ends is not None:
                return self.block(self.rest[: seen + ends.first])
            if ended:
                return self.block(self.rest)
            seen = size
        return self._left_out(stream, follows, sizes)

    def _left_out(self, stream: io.BufferedReader, follows: Scanner, sizes: Sizes) -> Block:
        """Pass over a record of which `longest` bytes have been seen."""
        start, line = self.position, self.line
        longest, chunk = self.rest[: sizes.longest], self.rest[sizes.longest :]
        fault = Skipped(
            self.file.name, line, f"the record is longer than {sizes.longest >> 20} MiB"
        )
        self._pass(longest)
        del longest
        ends = None
        while ends is None:
            self.rest = chunk or read_up_to(stream, sizes.block)
            if not self.rest:
                break
            ends = follows.feed(self.rest)
            chunk = b""
            self._pass(self.rest if ends is None else self.rest[: ends.first])
        return Block(
            self.file, self.source, start, self.position, line, self.line - line, fault=fault
        )

    def _fill(self, stream: io.BufferedReader, size: int) -> bool:
        """Read on until there are `size` bytes; False where there are no more."""
        # a damaged stream gives what it has first, and says so when asked again
        while len(self.rest) < size and (more := read_up_to(stream, size - len(self.rest))):
            self.rest += more
        return len(self.rest) >= size

    def block(self, data: bytes) -> Block:
        """Return the block that begins with the rest, and go beyond it."""
        start, line = self.position, self.line
        self._pass(data)
        return Block(self.file, self.source, start, self.position, line, self.line - line, data)

    def _pass(self, data: bytes) -> None:
        self.position += len(data)
        self.line += line_ends(data)
        self.rest = self.rest[len(data) :]
