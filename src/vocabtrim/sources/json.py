"""JSON that is not on lines: one array of records, or objects one after the other.

So are many chat data sets written, and so does a request look that was saved for
reading. Records are found by their structure alone: strings, escapes and brackets
are followed with numpy, about a hundred megabytes a second, and nothing is parsed to
cut a file. So what is wrong inside one record costs that record; only a bracket or
a quote too many or too few takes what follows with it.

Between records there are white space and commas. Anything else is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Block, Document, Reading, Skipped
from vocabtrim.sources.cutting import SIZES, Ends, Sizes, cut, line_ends
from vocabtrim.sources.files import BOM, DataFile
from vocabtrim.sources.heads import begins_array, begins_object, holds_json_lines, promises
from vocabtrim.sources.records import documents_of
from vocabtrim.sources.values import parsed

NAME = "json"

STEP = 1 << 20
"""Bytes that are followed at once."""

_QUOTE, _ESCAPE = ord('"'), ord("\\")
_BETWEEN = re.compile(rb"[\s,\]]*")


def _table(marks: bytes, value: int) -> NDArray[np.int8]:
    table = np.zeros(256, dtype=np.int8)
    table[list(marks)] = value
    return table


_SPECIAL = _table(b'"\\{}[]', 1).astype(np.bool_)
_CHANGE = (_table(b"{[", 1) + _table(b"}]", -1)).astype(np.int64)
"""What a byte outside strings adds to the depth."""


class RecordScanner:
    """Follows records, which are the objects and lists at the outermost depth.

    Args:
        at_start: Whether what follows is the beginning of the file: an opening
            bracket there is that of the array, and no record's.
    """

    def __init__(self, *, at_start: bool) -> None:
        self._opening = at_start
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, chunk: bytes) -> Ends | None:
        """Take the next bytes; None where no record ends in them."""
        found = [ends for _, ends in self._steps(chunk) if ends.size]
        return Ends(int(found[0][0]), int(found[-1][-1])) if found else None

    def records(self, data: bytes) -> list[tuple[int, int]]:
        """Return where the records of `data` begin and end; the last may not end."""
        steps = list(self._steps(data))
        begins = np.concatenate([np.empty(0, np.int64), *(one for one, _ in steps)])
        ends = np.concatenate([np.empty(0, np.int64), *(one for _, one in steps)])
        pairs = zip(begins.tolist(), [*ends.tolist(), len(data)], strict=False)
        return [(begin, end) for begin, end in pairs]

    def _steps(self, data: bytes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield where records begin and where they end, a step at a time."""
        view = np.frombuffer(data, dtype=np.uint8)
        for offset in range(0, len(data), STEP):
            begins, ends = self._step(view[offset : offset + STEP])
            yield begins + offset, ends + offset

    def _step(self, view: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        places = np.flatnonzero(_SPECIAL[view])
        if self._escaped and places.size and places[0] == 0:
            places = places[1:]
        places = self._without_escaped(places, view)
        marks = view[places]
        quotes = marks == _QUOTE
        strings = np.cumsum(quotes) + self._in_string
        outside = (strings % 2 == 0) & ~quotes & (marks != _ESCAPE)
        self._in_string = bool(strings[-1] % 2) if strings.size else self._in_string
        places, marks = self._without_opening(places[outside], marks[outside])
        change = _CHANGE[marks]
        depth = np.cumsum(change) + self._depth
        # a bracket that closes nothing closes nothing
        depth -= np.minimum(np.minimum.accumulate(depth), 0) if depth.size else 0
        before = np.concatenate([[self._depth], depth[:-1]]) if depth.size else depth
        self._depth = int(depth[-1]) if depth.size else self._depth
        begins = places[(change > 0) & (depth == 1)]
        ends = places[(before == 1) & (depth == 0)] + 1
        return begins, ends

    def _without_escaped(
        self, places: NDArray[np.int64], view: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        """Leave out quotes behind an odd run of backslashes."""
        marks = view[places]
        runs = marks == _ESCAPE
        if not runs.any():
            self._escaped = False
            return places
        slashes = places[runs]
        heads = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
        lengths = np.diff(heads, append=slashes.size)
        odd_ends = slashes[heads + lengths - 1][lengths % 2 == 1]
        self._escaped = bool(odd_ends.size and odd_ends[-1] == view.size - 1)
        escaped = np.zeros(view.size + 1, dtype=np.bool_)
        escaped[odd_ends + 1] = True
        return places[~escaped[places]]

    def _without_opening(
        self, places: NDArray[np.int64], marks: NDArray[np.uint8]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Leave out the bracket that opens the array."""
        if not self._opening or not places.size:
            return places, marks
        self._opening = False
        return (places[1:], marks[1:]) if marks[0] == ord("[") else (places, marks)


@dataclass(frozen=True)
class Json:
    """Source of records that are not on lines.

    Args:
        sizes: How long blocks and records may be.
    """

    sizes: Sizes = SIZES

    summary = "a JSON array of records, or objects written over several lines"
    example = b'[\n  {"text": "One document."},\n  {"prompt": "Another one."}\n]\n'

    def matches(self, file: DataFile) -> bool:
        """Whether the file holds JSON that is not on lines, or its name says JSON."""
        if holds_json_lines(file.head):
            return False
        lines_promised = promises(file, ".jsonl", ".ndjson")
        other = begins_object(file.head) or promises(file, ".json")
        return begins_array(file.head) or (other and not lines_promised)

    def blocks(self, file: DataFile, start: int = 0, line: int = 1) -> Iterator[Block]:
        """Cut a file between records."""
        return cut(
            file,
            NAME,
            start,
            line,
            scanner=lambda position: RecordScanner(at_start=position == 0),
            sizes=self.sizes,
        )

    def read(self, block: Block, reading: Reading) -> Iterator[Document | Skipped]:
        """Yield the documents of every record."""
        if block.fault is not None:
            yield block.fault
            return
        data, name, line = block.fetched(), block.file.name, block.line
        records = RecordScanner(at_start=block.start == 0).records(data)
        before = 0
        for begin, end in [*records, (len(data), len(data))]:
            if not _is_between(data[before:begin], at_start=block.start + before == 0):
                yield Skipped(
                    name, line, "what stands here is no JSON object, nor an array of some"
                )
            line += line_ends(data[before:begin])
            if begin < end:
                yield from self._documents(data[begin:end], reading, name, line)
            line += line_ends(data[begin:end])
            before = end

    def _documents(
        self, raw: bytes, reading: Reading, name: str, line: int
    ) -> Iterator[Document | Skipped]:
        try:
            record = parsed(raw)
        except CalibrationError as fault:
            yield Skipped(name, line, str(fault))
            return
        yield from documents_of(record, reading, name, line)


def _is_between(gap: bytes, *, at_start: bool) -> bool:
    """Whether this may stand before, between and after records."""
    if at_start:
        gap = gap.removeprefix(BOM).lstrip().removeprefix(b"[")
    return _BETWEEN.fullmatch(gap) is not None


PLUGIN = Json()
