"""Tables of columns, as Parquet and Arrow files have them: rows as records.

Positions are rows. A file comes in parts (row groups of Parquet, record batches of
Arrow) that say how many rows and bytes they have, so it is cut without reading
it, and a block has no data of its own. Whoever reads a block opens the file; a
process keeps its place in the part that it read last, for within a part there is
no way to a row but through those before it.

Only columns that mean something in a record are read. A value lies in one piece,
so memory has to hold the longest; nothing here can bound that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import LONGEST_RECORD, Block, Document, Reading, Skipped
from vocabtrim.sources.files import DataFile
from vocabtrim.sources.records import FORMS, documents_of
from vocabtrim.sources.streams import needed

MOST_ROWS = 8192
"""Rows of a block at most: columns of repeated values take few bytes and expand."""

BESIDE = frozenset(
    {
        *("tokenizer", "tools", "system", "domain"),
        *("request", "request_body", "response_body", "choices", "error", "custom_id"),
        *("output_ids", "meta_info", "content", "stop", "stop_type", "tokens"),
    }
)
"""Columns that mean something beside those named in `FORMS`."""


@dataclass(frozen=True)
class Part:
    """Rows that a file keeps together.

    Args:
        first: Row of the file that is the first of them, from 0.
        rows: How many.
        bytes: What the columns that may be read take.
    """

    first: int
    rows: int
    bytes: int


def arrow() -> Any:
    """Return the package pyarrow.

    Raises:
        MissingExtra: It is not installed.
    """
    return needed("pyarrow", "tables can be read with pyarrow only")


def cut_rows(
    file: DataFile, source: str, parts: Iterable[Part], start: int, block_bytes: int
) -> Iterator[Block]:
    """Cut a table into blocks, none of which reaches across parts.

    Args:
        file: The file.
        source: Registry name of the source that reads it.
        parts: In order.
        start: Row to begin at, from 0.
        block_bytes: About how long blocks should be.
    """
    for part in parts:
        by_bytes = part.rows * block_bytes // max(part.bytes, 1)
        step = max(1, min(by_bytes, MOST_ROWS))
        for offset in range(0, part.rows, step):
            first = max(start, part.first + offset)
            stop = part.first + min(offset + step, part.rows)
            if first < stop:
                yield Block(file, source, first, stop, first + 1, stop - first)


def columns_of(file: DataFile, names: Sequence[str], reading: Reading) -> list[str]:
    """Return the columns to read.

    Args:
        file: The file.
        names: All that it has.
        reading: What the count asks for.

    Raises:
        CalibrationError: None of them means anything, or the one that is asked
            for is not there.
    """
    if reading.field is None:
        chosen = [name for name in names if name in FORMS or name in BESIDE]
        useful = any(name not in ("tokenizer", "tools", "system", "domain") for name in chosen)
    else:
        asked = reading.field if reading.field in names else reading.field.split(".")[0]
        chosen = [name for name in names if name in (asked, "tools", "domain")]
        useful = asked in chosen
    if not useful:
        wanted = ", ".join(FORMS) if reading.field is None else repr(reading.field)
        hint = "; --field names another" if reading.field is None else ""
        raise CalibrationError(
            f"it has the columns {', '.join(names)}, and none of {wanted}{hint}", path=file.name
        )
    return chosen


class Rows:
    """The rows of a part, from one on.

    Args:
        batches: Record batches, in order.
        first: Row of the file that the first of them begins with, from 0.
    """

    def __init__(self, batches: Iterator[Any], first: int) -> None:
        self.row = first
        self._batches = batches
        self._rest: Any = None

    def between(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """Yield row and value of [start, stop); `start` is at `row` or behind it."""
        while self.row < stop:
            if self._rest is None or not self._rest.num_rows:
                self._rest = next(self._batches, None)
                if self._rest is None:
                    return
            if self.row < start:
                passed = min(start - self.row, self._rest.num_rows)
            else:
                passed = min(stop - self.row, self._rest.num_rows)
                for number, value in enumerate(_values(self._rest.slice(0, passed))):
                    yield self.row + number, value
            self._rest = self._rest.slice(passed)
            self.row += passed


def _values(batch: Any) -> Iterator[Any]:
    """Yield the rows of a batch; a fault in place of one that cannot be read."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for row in range(batch.num_rows):
            try:
                yield batch.slice(row, 1).to_pylist()[0]
            except UnicodeDecodeError as fault:
                yield fault


_KEPT: dict[str, tuple[tuple[Any, ...], Rows]] = {}
"""The place that this process has come to in one file, with what it is of."""


def read_rows(
    block: Block, reading: Reading, part: int, opened: Callable[[], Rows]
) -> Iterator[Document | Skipped]:
    """Yield the documents of a block.

    Args:
        block: A block of rows.
        reading: What the count asks for.
        part: Which part of the file the block lies in.
        opened: Gives the rows of that part from its beginning.
    """
    # an open file must not be shared with a process that was forked since
    key = (os.getpid(), block.file, part, reading.field)
    kept, rows = _KEPT.pop("place", ((), None))
    if kept != key or rows is None or rows.row > block.start:
        rows = opened()
    name = block.file.name
    faults = (arrow().ArrowException, OSError)
    try:
        for row, value in rows.between(block.start, block.stop):
            yield from _documents(value, reading, name, row + 1)
    except faults as fault:
        reason = " ".join(str(fault).split())
        line = max(rows.row, block.start) + 1
        yield Skipped(name, line, f"rows from here to {block.stop} cannot be read ({reason})")
        return
    if rows.row == block.stop:
        _KEPT["place"] = (key, rows)


def _documents(value: Any, reading: Reading, name: str, line: int) -> Iterator[Document | Skipped]:
    if isinstance(value, UnicodeDecodeError):
        yield Skipped(name, line, "it is not UTF-8 text")
    elif any(isinstance(one, str) and len(one) > LONGEST_RECORD for one in value.values()):
        yield Skipped(name, line, f"the record is longer than {LONGEST_RECORD >> 20} MiB")
    else:
        yield from documents_of(value, reading, name, line)
