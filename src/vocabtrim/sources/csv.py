"""CSV and TSV with a header: each row is a record.

Cells are separated by commas, tabs, semicolons or bars, whichever makes the most
of the header. A cell in quotes may hold separators, line ends and quotes twice
over, so a file is cut where a row ends and not at any line end; cutting and
reading follow the same pattern. Cells are text, and where a record needs a list
they are read as JSON. An empty cell without quotes is null.

A row with more or fewer cells than the header is left out, and so is one whose
quotes do not end: that one may reach to the end of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Block, Document, Reading, Skipped
from vocabtrim.sources.cutting import SIZES, Ends, Sizes, cut, line_ends
from vocabtrim.sources.files import BOM, HEAD_BYTES, DataFile
from vocabtrim.sources.heads import holds_json_lines, promises
from vocabtrim.sources.records import FORMS, documents_of

NAME = "csv"
DELIMITERS = (",", "\t", ";", "|")
LOOKED_AT = 16
"""Rows of the beginning by which a file without a telling name is judged."""


@dataclass(frozen=True)
class Grammar:
    """How rows of one delimiter are told apart.

    Args:
        row: A row with its end. A return at the end of what is looked at may be
            the half of a line end, so it ends nothing.
        rows: As many of them as there are.
        cell: A cell with what ends it: groups for what is in quotes, what
            follows, and the end.
    """

    row: re.Pattern[bytes]
    rows: re.Pattern[bytes]
    cell: re.Pattern[str]

    def cells(self, row: str) -> list[str | None]:
        """Return the cells of a row.

        Raises:
            CalibrationError: A quote is left open.
        """
        cells: list[str | None] = []
        place = 0
        while True:
            found = self.cell.match(row, place)
            if found is None:
                raise CalibrationError("a quote is opened in this row and never closed")
            quoted, rest, end = found.groups()
            cells.append((rest or None) if quoted is None else quoted.replace('""', '"') + rest)
            if end not in DELIMITERS:
                return cells
            place = found.end()


@cache
def grammar(delimiter: str) -> Grammar:
    """Return how rows with this delimiter are told apart."""
    mark = re.escape(delimiter)
    cell = rf'(?>"[^"]*+(?:""[^"]*+)*+"[^{mark}\r\n]*+|(?!")[^{mark}\r\n]*+)'
    row = rf"(?>{cell}(?:{mark}{cell})*+(?:\r?\n|\r(?=[^\n])))"
    ended = rf'(?:"([^"]*+(?:""[^"]*+)*+)"|(?!"))([^{mark}\r\n]*+)({mark}|\r?\n|\r|\Z)'
    return Grammar(re.compile(row.encode()), re.compile(rf"{row}*+".encode()), re.compile(ended))


class RowScanner:
    """Follows rows through a file.

    Args:
        delimiter: What separates cells.
    """

    def __init__(self, delimiter: str) -> None:
        self._grammar = grammar(delimiter)
        self._mark = delimiter.encode()
        self._stop = re.compile(rb"[\r\n]|" + re.escape(self._mark))
        self._state = "row"

    def feed(self, chunk: bytes) -> Ends | None:
        """Take the next bytes; None where no row ends in them."""
        first: int | None = None
        start = 0
        if self._state != "row":
            end = self._rest_of_row(chunk, 0)
            if end is None:
                return None
            first = start = end
        if first is None:
            found = self._grammar.row.match(chunk)
            first = None if found is None else found.end()
        rows = self._grammar.rows.match(chunk, start)
        last = start if rows is None else rows.end()
        self._state = "row" if last == len(chunk) else "cell"
        # what is left is no whole row, or the pattern would have taken it
        end = None if last == len(chunk) else self._rest_of_row(chunk, last)
        return None if first is None else Ends(first, last if end is None else end)

    def _rest_of_row(self, chunk: bytes, place: int) -> int | None:
        """Follow a row that has begun; return where it ends, None where it goes on."""
        while place < len(chunk):
            byte = chunk[place : place + 1]
            if self._state == "cell":
                self._state = "quoted" if byte == b'"' else "plain"
                place += byte == b'"'
            elif self._state == "quoted":
                quote = chunk.find(b'"', place)
                if quote < 0:
                    return None
                self._state, place = "quote", quote + 1
            elif self._state == "quote":
                self._state = "quoted" if byte == b'"' else "plain"
                place += byte == b'"'
            elif self._state == "return":
                self._state = "row"
                return place + (byte == b"\n")
            else:
                found = self._stop.search(chunk, place)
                if found is None:
                    return None
                place = found.end()
                kinds = {self._mark: "cell", b"\r": "return", b"\n": "row"}
                self._state = kinds[found.group()]
                if self._state == "row":
                    return place
        return None


@dataclass(frozen=True)
class Header:
    """The first row of a file.

    Args:
        delimiter: What separates cells.
        raw: Its bytes, line end included.
        names: What its cells say; columns without a name are left out of records.
    """

    delimiter: str
    raw: bytes
    names: tuple[str | None, ...]

    @classmethod
    def find(cls, head: bytes, *, whole: bool) -> Header | None:
        """Return the header of what begins so, None where there is none.

        Args:
            head: The beginning of the file.
            whole: Whether that is all of it.
        """
        found: list[Header] = []
        for delimiter in DELIMITERS:
            row = grammar(delimiter).row.match(head)
            raw = row.group() if row else head if whole else b""
            try:
                names = grammar(delimiter).cells(raw.removeprefix(BOM).decode("utf-8"))
            except (UnicodeDecodeError, CalibrationError):
                continue
            if any(names):
                found.append(cls(delimiter, raw, tuple(name and name.strip() for name in names)))
        return max(found, key=lambda header: len(header.names), default=None)

    def record(self, raw: bytes) -> dict[str, str | None]:
        """Return a row as a record.

        Raises:
            CalibrationError: It is not UTF-8, a quote is left open, or it has
                more or fewer cells than the header.
        """
        try:
            cells = grammar(self.delimiter).cells(raw.decode("utf-8"))
        except UnicodeDecodeError as fault:
            raise CalibrationError("it is not UTF-8 text") from fault
        if len(cells) != len(self.names):
            raise CalibrationError(
                f"the row has more or fewer cells than the header, which has {len(self.names)}"
            )
        return {name: cell for name, cell in zip(self.names, cells, strict=True) if name}


@dataclass(frozen=True)
class Csv:
    """Source of rows.

    Args:
        sizes: How long blocks and rows may be.
    """

    sizes: Sizes = SIZES

    summary = "CSV or TSV with a header, its columns named like the fields of JSON records"
    example = b'id,text\n1,"One document,\non two lines."\n2,Another one.\n'

    def matches(self, file: DataFile) -> bool:
        """Whether the file is a table with a column that records have, or its name says so.

        Without such a name a table needs two columns or more, one of them named
        like a field of records, and as many cells in all of its first rows.
        """
        if promises(file, ".csv", ".tsv"):
            return True
        if b"\0" in file.head or holds_json_lines(file.head):
            return False
        header = Header.find(file.head, whole=len(file.head) < HEAD_BYTES)
        if header is None or len(header.names) < 2 or None in header.names:
            return False
        if len(set(header.names)) < len(header.names) or not FORMS.keys() & set(header.names):
            return False
        return _are_regular(file.head, header)

    def blocks(self, file: DataFile, start: int = 0, line: int = 1) -> Iterator[Block]:
        """Cut a file between rows; each block has the header in front.

        Raises:
            CalibrationError: There is no header, or a name stands in it twice.
        """
        if not file.head:
            return
        header = _header(file)
        if not start:
            start, line = len(header.raw), 1 + line_ends(header.raw)
        for block in cut(
            file,
            NAME,
            start,
            line,
            scanner=lambda _: RowScanner(header.delimiter),
            sizes=self.sizes,
        ):
            yield block if block.data is None else block.with_data(header.raw + block.data)

    def read(self, block: Block, reading: Reading) -> Iterator[Document | Skipped]:
        """Yield the documents of every row."""
        if block.fault is not None:
            yield block.fault
            return
        data = block.data
        if data is None:
            data = _header(block.file).raw + block.fetched()
        header = Header.find(data, whole=True)
        if header is None:
            raise CalibrationError("there is no header in it", path=block.file.name)
        rules, name, line = grammar(header.delimiter), block.file.name, block.line
        place = len(header.raw)
        while place < len(data):
            row = rules.row.match(data, place)
            raw = data[place : row.end() if row else len(data)]
            if raw.strip(b"\r\n"):
                try:
                    record = header.record(raw)
                except CalibrationError as fault:
                    yield Skipped(name, line, str(fault))
                else:
                    yield from documents_of(record, reading, name, line)
            place += len(raw)
            line += line_ends(raw)


def _header(file: DataFile) -> Header:
    header = Header.find(file.head, whole=len(file.head) < HEAD_BYTES)
    if header is None:
        raise CalibrationError(
            "there is no header in its first line; name the columns there", path=file.name, line=1
        )
    named = [name for name in header.names if name]
    twice = sorted(name for name in set(named) if named.count(name) > 1)
    if twice:
        raise CalibrationError(f"two columns are called {twice[0]!r}", path=file.name, line=1)
    return header


def _are_regular(head: bytes, header: Header) -> bool:
    """Whether the rows behind a header have as many cells; at least one has to."""
    rules, place, seen = grammar(header.delimiter), len(header.raw), 0
    while place < len(head) and seen < LOOKED_AT:
        row = rules.row.match(head, place)
        if row is None and len(head) >= HEAD_BYTES:
            break
        raw = head[place : row.end() if row else len(head)]
        place += len(raw)
        try:
            cells = rules.cells(raw.decode("utf-8"))
        except (UnicodeDecodeError, CalibrationError):
            return False
        if raw.strip(b"\r\n") and len(cells) != len(header.names):
            return False
        seen += bool(raw.strip(b"\r\n"))
    return seen > 0


PLUGIN = Csv()
