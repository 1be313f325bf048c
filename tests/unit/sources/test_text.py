"""Text: a file is a document, to the byte."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.reading import READING, assert_blocks_do_not_matter, contents, read, reasons, told
from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Document, Reading
from vocabtrim.sources.files import DataFile
from vocabtrim.sources.text import PLUGIN, Text


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def pieces(path: Path, content: bytes, piece_bytes: int) -> list[str]:
    return [str(one) for one in contents(read(Text(piece_bytes), written(path, content)))]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"One.\nTwo.\n", "One.\nTwo.\n"),
        (b"One.\r\nTwo.\r", "One.\r\nTwo.\r"),
        (b"\xef\xbb\xbfBOM \xef\xbb\xbf", "BOM \ufeff"),
        ("é🙂\u2028漢\x0b".encode(), "é🙂\u2028漢\x0b"),
        (b" \n", " \n"),
        (b"nul \0 byte", "nul \0 byte"),
    ],
)
def test_a_file_is_one_document_as_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    (document,) = read(PLUGIN, written(tmp_path / "x", content))
    assert isinstance(document, Document)
    assert (document.file, document.line, document.content) == (str(tmp_path / "x"), 1, text)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_document(tmp_path: Path, content: bytes) -> None:
    assert read(PLUGIN, written(tmp_path / "x", content)) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("abcdefgh", ["abcdefgh"]),
        ("abc\ndefgh", ["abc\n", "defgh"]),
        ("a\nb\ncdefg", ["a\nb\n", "cdefg"]),
        ("ab\n\n\ncdefg", ["ab\n\n\n", "cdefg"]),
        ("ab\ncde\n\n\n\nf", ["ab\n", "cde\n\n\n\nf"]),
        ("ab\ncd\n  ef", ["ab\n", "cd\n  ef"]),
        ("abcde\n   f", ["abcde\n", "   f"]),
        ("abc de fgh", ["abc de", " fgh"]),
        (" bcdefghij", [" bcdefgh", "ij"]),
        ("abcdefghij", ["abcdefgh", "ij"]),
        ("ééééé", ["éééé", "é"]),
        ("abcdefg🙂", ["abcdefg", "🙂"]),
        ("\n" * 10, ["\n" * 8, "\n\n"]),
    ],
)
def test_a_long_file_is_cut_where_it_hurts_least(
    tmp_path: Path, content: str, expected: list[str]
) -> None:
    assert pieces(tmp_path / "x", content.encode(), 8) == expected


def test_bytes_that_are_no_characters_are_cut_too(tmp_path: Path) -> None:
    file = DataFile.find(written(tmp_path / "x", b"\x80" * 20))
    assert [block.stop for block in Text(8).blocks(file)] == [8, 16, 20]


@settings(deadline=None)
@given(st.text(alphabet="a \n\r\té🙂"), st.integers(4, 20))
def test_pieces_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "x"
    found = pieces(path, text.encode(), size)
    assert "".join(found) == text
    assert all(0 < len(piece.encode()) <= size for piece in found)


@settings(deadline=None)
@given(content=st.binary(max_size=60), size=st.integers(1, 20))
@example(content=b"\x1f\x8b", size=1)  # a gzip that breaks off at once
def test_reading_goes_on_from_any_block(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int
) -> None:
    path = written(tmp_path_factory.mktemp("text") / "x", content)
    # where text is cut decides what its documents are: one size is held against itself
    assert_blocks_do_not_matter(lambda _: Text(size), path, [size])


def test_blocks_know_their_line_and_place(tmp_path: Path) -> None:
    file = DataFile.find(written(tmp_path / "x", b"abc\nde\nf\nghijkl"))
    places = [(b.start, b.stop, b.line, b.lines) for b in Text(8).blocks(file)]
    assert places == [(0, 7, 1, 2), (7, 15, 3, 1)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"ab\ncd\n\xff", [(3, "skipped", "the line is not UTF-8 text"), (1, "text", "ab\ncd\n")]),
        (b"\xc3", [(1, "skipped", "not UTF-8")]),
        (
            b"caf\xe9\nab\rx\xe9\r\n",
            [(1, "skipped", "not UTF-8"), (3, "skipped", ""), (1, "text", "ab\r")],
        ),
        (b"a\xed\xa0\x80\nb", [(1, "skipped", "not UTF-8"), (1, "text", "b")]),
    ],
)
def test_a_line_that_is_not_utf8_is_left_out(
    tmp_path: Path, content: bytes, expected: list[tuple[int, str, str]]
) -> None:
    found = told(read(PLUGIN, written(tmp_path / "x", content)))
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    for (_, kind, shown), (*_, part) in zip(found, expected, strict=True):
        assert part in shown if kind == "skipped" else part == shown


def test_a_truncated_file_counts_to_where_it_breaks_off(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b"line %d\n" % n for n in range(5000)))
    found = read(PLUGIN, written(tmp_path / "x", packed[:-200]))
    (document,) = (one for one in found if isinstance(one, Document))
    assert str(document.content).startswith("line 0\nline 1\n")
    ((line, reason),) = reasons(found)
    assert line == str(document.content).count("\n") + 1
    assert reason == "it breaks off in the middle of its gzip; what comes before that is counted"


def test_text_has_no_fields(tmp_path: Path) -> None:
    reading = Reading(READING.tokenizer, READING.vocab_size, field="text")
    with pytest.raises(CalibrationError, match=r"x: this is plain text, which has no field 'text'"):
        read(PLUGIN, written(tmp_path / "x", b"text"), reading)


def test_the_rule_of_the_package_is_4_mib() -> None:
    assert PLUGIN.piece_bytes == 4 * 1024 * 1024
