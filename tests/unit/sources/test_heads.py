"""Heads: JSON on lines, in an array, over lines; and what a name promises."""

from __future__ import annotations

import pytest

from vocabtrim.sources.files import HEAD_BYTES, DataFile
from vocabtrim.sources.heads import begins_array, begins_object, holds_json_lines, promises

OBJECT = b'{"a": 1}'


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        (b"", False),
        (b"\n \n", False),
        (OBJECT, True),
        (b"\xef\xbb\xbf\r\n" + OBJECT, True),
        (b"\r".join([OBJECT] * 3), True),
        (b"{}", True),
        (b"[1]", False),
        (b"[1]\n[2]", True),
        (b"[1]\n" + OBJECT, False),
        (b"[1]\n" + OBJECT + b"\n" + OBJECT, True),
        (b"junk\n" + OBJECT, False),
        (b"junk\n" + OBJECT + b"\n" + OBJECT, True),
        (b"junk\n" * 9 + (OBJECT + b"\n") * 50, False),
        (b"[\n" + OBJECT + b",\n" + OBJECT + b"\n]", False),
        (b'{\n"a": 1\n}', False),
        (b"{" * 50_000, False),
        (b'{"a": "' + b"x" * HEAD_BYTES, True),
        (b"{ }" + b" " * HEAD_BYTES, True),
        (b"{ int x; }" + b" " * HEAD_BYTES, False),
        (b"x" * HEAD_BYTES, False),
        (OBJECT + b'\n{"cut": "' + b"x" * HEAD_BYTES, True),
    ],
)
def test_lines_of_json(head: bytes, lines: bool) -> None:
    assert holds_json_lines(head[:HEAD_BYTES]) == lines


@pytest.mark.parametrize(
    ("head", "array", "an_object"),
    [
        (b'\xef\xbb\xbf [\n {"a"', True, False),
        (b"[[", True, False),
        (b"[1, 2]", False, False),
        (b"[section]", False, False),
        (b' {\n "a"', False, True),
        (b"{}", False, True),
        (b"{\n  int x;", False, False),
        (b"", False, False),
    ],
)
def test_beginnings(head: bytes, array: bool, an_object: bool) -> None:
    assert (begins_array(head), begins_object(head)) == (array, an_object)


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("a.csv", True),
        ("a.CSV.GZ", True),
        ("https://host/a.csv.zst", True),
        ("a.csv.zip", False),
        ("csv", False),
        ("-", False),
    ],
)
def test_names_promise(name: str, promised: bool) -> None:
    assert promises(DataFile(name), ".csv", ".tsv") == promised
