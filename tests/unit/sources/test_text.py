"""Text: a file is a document, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Document, Reading
from vocabtrim.sources.text import PLUGIN, Text

READING = Reading("sha256:t", 10)


def read(path: Path, content: bytes, source: Text = PLUGIN) -> list[Document]:
    path.write_bytes(content)
    return list(source.read(path, READING))


def pieces(path: Path, content: bytes, piece_bytes: int) -> list[str]:
    documents = read(path, content, Text(piece_bytes))
    assert all(isinstance(document.content, str) for document in documents)
    return [str(document.content) for document in documents]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"One.\nTwo.\n", "One.\nTwo.\n"),
        (b"One.\r\nTwo.\r", "One.\r\nTwo.\r"),
        (b"\xef\xbb\xbfBOM \xef\xbb\xbf", "BOM \ufeff"),
        ("é🙂\u2028漢\x0b".encode(), "é🙂\u2028漢\x0b"),
        (b" \n", " \n"),
    ],
)
def test_a_file_is_one_document_as_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    (document,) = read(tmp_path / "x", content)
    assert document.content == text
    assert (document.path, document.line, document.stop) == (tmp_path / "x", 1, len(content))


def test_an_empty_file_has_no_document(tmp_path: Path) -> None:
    assert read(tmp_path / "x", b"") == []


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


@settings(deadline=None)
@given(st.text(alphabet="a \n\r\té🙂"), st.integers(4, 20))
def test_pieces_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "x"
    found = pieces(path, text.encode(), size)
    assert "".join(found) == text
    assert all(0 < len(piece.encode()) <= size for piece in found)


def test_pieces_know_their_line_and_place(tmp_path: Path) -> None:
    documents = read(tmp_path / "x", b"abc\nde\nf\nghijkl", Text(8))
    assert [(d.line, d.stop) for d in documents] == [(1, 7), (3, 15)]


@pytest.mark.parametrize(
    ("content", "line"), [(b"ab\ncd\n\xff", 3), (b"\xc3", 1), (b"abcdefg\nab\nx\xe9\n", 3)]
)
def test_what_is_not_utf8_is_refused_with_its_line(
    tmp_path: Path, content: bytes, line: int
) -> None:
    with pytest.raises(CalibrationError, match=rf"x, line {line}: byte 0x\w\w is not UTF-8"):
        read(tmp_path / "x", content, Text(8))


def test_the_rule_of_the_package_is_4_mib() -> None:
    assert PLUGIN.piece_bytes == 4 * 1024 * 1024
