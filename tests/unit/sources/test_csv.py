"""CSV: rows where quotes say so, each for itself."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reading import assert_blocks_do_not_matter, contents, read, reasons, sizes_of, told
from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.csv import PLUGIN, Csv, Header, RowScanner
from vocabtrim.sources.cutting import Ends
from vocabtrim.sources.files import DataFile

CELLS = st.text(alphabet='a",\n\r;\té ', max_size=10)


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS)),
    delimiter=st.sampled_from([",", "\t", ";", "|"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    sizes=st.sets(st.integers(1, 60), min_size=1, max_size=2),
)
def test_what_the_standard_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    end: str,
    quoting: int,
    sizes: set[int],
) -> None:
    if quoting == csv.QUOTE_MINIMAL:
        # it leaves line ends other than its own without quotes, and cannot read them itself
        rows = [(text.replace("\r", " ").replace("\n", end), more[:0]) for text, more in rows]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["text", "more"])
    writer.writerows(rows)
    path = written(tmp_path_factory.mktemp("csv") / "x.csv", stream.getvalue())
    assert contents(read(PLUGIN, path)) == [text for text, _ in rows]
    assert_blocks_do_not_matter(lambda size: Csv(sizes_of(size)), path, sizes)


@settings(deadline=None)
@given(
    parts=st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"a", b"\xff"])),
    sizes=st.sets(st.integers(1, 40), min_size=1, max_size=2),
)
def test_blocks_do_not_matter_in_nonsense(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], sizes: set[int]
) -> None:
    path = written(tmp_path_factory.mktemp("csv") / "x.csv", b"text,more\n" + b"".join(parts))
    assert_blocks_do_not_matter(lambda size: Csv(sizes_of(size)), path, sizes)


def test_rows_are_records_of_any_form(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "a, b"}]
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["messages", "text", "domain"])
    writer.writerow([json.dumps(said), "", "d"])
    writer.writerow(["", "plain", ""])
    found = told(read(PLUGIN, written(tmp_path / "x.csv", stream.getvalue())))
    assert found == [(2, "conversation", said), (3, "text", "plain")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text\na\n\nb", [(2, "a"), (4, "b")]),
        ("\ufefftext,id\r\na,1\r\n", [(2, "a")]),
        (",text\n0,a\n", [(2, "a")]),
        (' text ,id\n" a ",1\n', [(2, " a ")]),
        ('text,id\n"a\r\nb",1\nc,2\n', [(2, "a\r\nb"), (4, "c")]),
        ('text,id\n"a""b"c"d,1\n', [(2, 'a"bc"d')]),
        ('text,id\na"b,1\n', [(2, 'a"b')]),
        ('text,id\n,1\n"",2\n', [(2, ""), (3, "")]),
        ("text,id\n", []),
        ("text,id", []),
        ("id\ttext\n1\ta,b\n", [(2, "a,b")]),
        ("text\na,b\n", [(2, "skipped")]),
    ],
)
def test_rows_and_lines(tmp_path: Path, content: str, expected: list[tuple[int, str]]) -> None:
    found = told(read(PLUGIN, written(tmp_path / "x.csv", content)))
    shown = [(line, kind if kind == "skipped" else text) for line, kind, text in found]
    assert shown == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"a", "more or fewer cells than the header, which has 2"),
        (b"a,1,2", "more or fewer cells"),
        (b"\xff,1", "it is not UTF-8 text"),
        (b'"[",1', None),
    ],
)
def test_a_row_that_is_no_record_is_left_out(
    tmp_path: Path, row: bytes, reason: str | None
) -> None:
    path = written(tmp_path / "x.csv", b"text,id\nfine,1\n" + row + b"\nalso,2\n")
    found = reasons(read(PLUGIN, path))
    assert [line for line, _ in found] == ([] if reason is None else [3])
    assert all(reason in why for _, why in found if reason)


def test_a_quote_that_is_never_closed_takes_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", 'text,id\na,1\n"b,2\nc,3\n')
    found = told(read(PLUGIN, path))
    assert found[0] == (2, "text", "a")
    assert found[1:] == [(3, "skipped", "a quote is opened in this row and never closed")]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read(PLUGIN, written(tmp_path / "x.csv", "")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n\na,b\n", "x.csv, line 1: there is no header"),
        ('"text', "there is no header"),
        (b"\xff,text\n", "there is no header"),
        ("text,id,text\na,b,c\n", "line 1: two columns are called 'text'"),
    ],
)
def test_a_file_without_a_header_is_refused(
    tmp_path: Path, content: bytes | str, message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        read(PLUGIN, written(tmp_path / "x.csv", content))


def test_the_delimiter_is_what_makes_most_of_the_header() -> None:
    for head, delimiter in [
        (b"a;b,c;d\n", ";"),
        (b"a\n", ","),
        (b'"a;b",c\n', ","),
        (b"a|b\n", "|"),
    ]:
        header = Header.find(head, whole=False)
        assert header is not None
        assert header.delimiter == delimiter
    assert Header.find(b"a,b", whole=False) is None


def test_a_row_is_followed_across_chunks() -> None:
    content = b'a,"b""\r\n,"\r\nc,d\re,f\n'
    ends = [12, 16, 20]
    for size in range(1, len(content) + 1):
        scanner, found = RowScanner(","), []
        for start in range(0, len(content), size):
            at = scanner.feed(content[start : start + size])
            found += [] if at is None else [start + at.first, start + at.last]
        assert set(found) <= set(ends), size
        assert found[-1] == 20, size


def test_ends_are_those_of_the_first_and_the_last_row() -> None:
    assert RowScanner(",").feed(b'a,b\n"c\n",d\ne') == Ends(4, 11)
    assert RowScanner(",").feed(b"a,b\r") is None


def test_a_file_is_told_by_its_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "x", "id;prompt\n" + "1;a\n" * 30_000)
    assert PLUGIN.matches(DataFile.find(path))
    assert not PLUGIN.matches(DataFile.find(written(path, "id;prompt\n1;a\n2;b;c\n")))
    assert not PLUGIN.matches(DataFile.find(written(path, 'id;prompt\n1;a\n"2;b\n')))
    assert not PLUGIN.matches(DataFile.find(written(path, b"id;prompt\n1;a\0\n")))
