"""Tables: blocks of rows, the columns that are read, and a place that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests.reading import READING, told
from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources import tables
from vocabtrim.sources.base import Block, Reading
from vocabtrim.sources.files import DataFile
from vocabtrim.sources.tables import MOST_ROWS, Part, Rows, columns_of, cut_rows, read_rows

FILE = DataFile("table")


def cuts(parts: list[Part], start: int = 0, block_bytes: int = 100) -> list[tuple[int, int]]:
    found = cut_rows(FILE, "tables", parts, start, block_bytes)
    return [(block.start, block.stop) for block in found]


def test_blocks_have_about_so_many_bytes_and_lie_within_parts() -> None:
    parts = [Part(0, 5, 250), Part(5, 0, 0), Part(5, 3, 30)]
    assert cuts(parts) == [(0, 2), (2, 4), (4, 5), (5, 8)]
    assert cuts(parts, 4) == [(4, 5), (5, 8)]
    assert cuts(parts, 3) == [(3, 4), (4, 5), (5, 8)]
    assert cuts(parts, 8) == []


def test_blocks_have_a_row_at_least_and_not_too_many() -> None:
    assert cuts([Part(0, 2, 10_000)]) == [(0, 1), (1, 2)]
    assert cuts([Part(0, MOST_ROWS + 1, 0)]) == [(0, MOST_ROWS), (MOST_ROWS, MOST_ROWS + 1)]


def test_rows_are_lines() -> None:
    (block,) = cut_rows(FILE, "tables", [Part(0, 7, 1)], 3, 100)
    assert (block.line, block.lines, block.data, block.source) == (4, 4, None, "tables")


@pytest.mark.parametrize(
    ("names", "field", "columns"),
    [
        (["id", "text", "domain", "tools"], None, ["text", "domain", "tools"]),
        (["id", "request", "response"], None, ["request", "response"]),
        (["id", "body", "domain"], "body", ["body", "domain"]),
        (["id", "body"], "body.0.text", ["body"]),
        (["a.b", "a"], "a.b", ["a.b"]),
    ],
)
def test_only_columns_that_mean_something_are_read(
    names: list[str], field: str | None, columns: list[str]
) -> None:
    assert columns_of(FILE, names, Reading("t", 1, field=field)) == columns


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (None, "table: it has the columns id, domain, and none of .*text.*; --field names another"),
        ("body", "table: it has the columns id, domain, and none of 'body'$"),
    ],
)
def test_a_table_without_such_a_column_is_refused(field: str | None, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        columns_of(FILE, ["id", "domain"], Reading("t", 1, field=field))


def batches(*sizes: int) -> Iterator[Any]:
    first = 0
    for size in sizes:
        yield pa.record_batch({"text": [str(row) for row in range(first, first + size)]})
        first += size


def test_rows_between_any_two() -> None:
    rows = Rows(batches(3, 0, 4, 2), 0)
    assert [row for row, _ in rows.between(1, 4)] == [1, 2, 3]
    assert [value["text"] for _, value in rows.between(5, 8)] == ["5", "6", "7"]
    assert rows.row == 8
    assert [row for row, _ in rows.between(8, 100)] == [8]


def test_one_row_that_is_not_utf8_costs_itself() -> None:
    offsets, values = pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0])), b"a\xff"
    text = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(values))
    rows = Rows(iter([pa.record_batch({"text": text})]), 0)
    found = told(read_rows(Block(FILE, "tables", 0, 2, 1, 2), READING, 0, lambda: rows))
    assert found[0] == (1, "text", "a")
    assert found[1] == (2, "skipped", "it is not UTF-8 text")


def test_a_value_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LONGEST_RECORD", 1 << 20)
    batch = pa.record_batch({"text": ["a" * (1 << 20), "a" * (1 << 20) + "b"]})
    found = told(
        read_rows(Block(FILE, "tables", 0, 2, 1, 2), READING, 0, lambda: Rows(iter([batch]), 0))
    )
    assert [kind for _, kind, _ in found] == ["text", "skipped"]
    assert found[1][2] == "the record is longer than 1 MiB"


def test_a_process_keeps_its_place_and_finds_an_earlier_one_again() -> None:
    opened = []

    def rows() -> Rows:
        opened.append(1)
        return Rows(batches(10), 0)

    def read(start: int, stop: int, part: int = 0, reading: Reading = READING) -> list[str]:
        block = Block(FILE, "tables", start, stop, start + 1, stop - start)
        return [text for _, _, text in told(read_rows(block, reading, part, rows))]

    assert read(0, 2) == ["0", "1"]
    assert read(4, 6) == ["4", "5"]
    assert len(opened) == 1
    assert read(2, 4) == ["2", "3"]
    assert len(opened) == 2
    assert read(4, 5, part=1) == ["4"]
    assert len(opened) == 3
    assert read(5, 6, part=1, reading=Reading("t", 1, field="text")) == ["5"]
    assert len(opened) == 4


def test_what_breaks_in_the_middle_is_told_with_its_row() -> None:
    def broken() -> Iterator[Any]:
        yield from batches(2)
        raise pa.ArrowInvalid("bad\npage")

    block = Block(FILE, "tables", 0, 5, 1, 5)
    found = told(read_rows(block, READING, 0, lambda: Rows(broken(), 0)))
    assert [kind for _, kind, _ in found] == ["text", "text", "skipped"]
    assert found[2][2] == "rows from here to 5 cannot be read (bad page)"
    assert found[2][0] == 3
