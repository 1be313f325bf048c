"""Records on lines: each line for itself, whatever is wrong with its neighbours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reading import assert_blocks_do_not_matter, contents, read, reasons, sizes_of, told
from vocabtrim.sources.base import Document
from vocabtrim.sources.jsonl import PLUGIN, Jsonl


def written(path: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    path.write_bytes(end.join(lines))
    return path


def test_places_domains_and_blank_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x",
        b'\xef\xbb\xbf{"text": "one", "domain": "d"}\r',
        b"",
        b" \t\r",
        b'{"text": "two", "domain": 3}',
    )
    found = [one for one in read(PLUGIN, path) if isinstance(one, Document)]
    assert [(d.line, d.content, d.domain) for d in found] == [(1, "one", "d"), (4, "two", None)]
    assert {d.file for d in found} == {str(path)}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_everywhere(tmp_path: Path, end: bytes) -> None:
    path = written(tmp_path / "x", b'{"text": "a"}', b'{"text": "b\\n"}', b"", end=end)
    assert told(read(PLUGIN, path)) == [(1, "text", "a"), (2, "text", "b\n")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "it is not valid JSON (Unterminated string starting at)"),
        (b"nonsense", "it is not valid JSON (Expecting value); one record a line is needed"),
        (b"{" * 3, "it is not valid JSON"),
        (b"[" * 100_000, "its JSON is nested too deeply"),
        (b'{"text": ' + b"[" * 100_000, "its JSON is nested too deeply"),
        (b'{"text": ' + b"9" * 5000 + b"}", "a number with thousands of digits"),
        (b"[1, 2]", "a record must be a JSON object, found a list"),
        (b'"text"', "found text"),
        (b"null", "found null"),
        (b'{"text": "\xff"}', "it is not UTF-8 text; one record a line is needed"),
        (b'{"text": "\xed\xa0\x80"}', "it is not UTF-8 text"),
        (b'{"text": "\\ud83d"}', "an escape is half a character"),
        (b'{"other": "\\uD83D"}', "an escape is half a character"),
        (b"{}", "this one has nothing"),
        (b"\x00\x00", "it is not valid JSON"),
    ],
)
def test_a_line_that_is_no_record_is_left_out_with_its_place(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    found = read(
        PLUGIN, written(tmp_path / "x", b'{"text": "fine"}', b"", line, b'{"text": "too"}')
    )
    ((at, why),) = reasons(found)
    assert at == 3
    assert reason in why
    assert "\n" not in why
    assert len(why) < 250
    assert [one.line for one in found] == [1, 3, 4]


def test_a_line_that_is_half_written_costs_itself(tmp_path: Path) -> None:
    whole = b'{"text": "one"}\n{"text": "two"}'
    path = tmp_path / "x"
    path.write_bytes(whole[:-4])
    assert [kind for _, kind, _ in told(read(PLUGIN, path))] == ["text", "skipped"]


def test_characters_in_two_escapes_are_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "x", b'{"text": "\\ud83d\\uDE42 \\u0000"}')
    assert contents(read(PLUGIN, path)) == ["🙂 \0"]


def test_a_line_that_is_a_stream_is_a_record(tmp_path: Path) -> None:
    chunks = [{"choices": [{"text": part, "finish_reason": None}]} for part in ("Hel", "lo")]
    path = written(tmp_path / "x", json.dumps(chunks).encode())
    assert contents(read(PLUGIN, path)) == ["Hello"]


LINES = st.lists(
    st.sampled_from(
        [b'{"text": "a"}', b'{"text": "\xc3\xa9"}', b"\n", b"\r", b"\r\n", b" ", b"junk", b"\xff"]
    ),
    max_size=20,
)


@settings(deadline=None)
@given(parts=LINES, bom=st.booleans(), sizes=st.sets(st.integers(1, 60), min_size=1, max_size=3))
def test_blocks_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], bom: bool, sizes: set[int]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "x"
    path.write_bytes(b"\xef\xbb\xbf" * bom + b"".join(parts))
    assert_blocks_do_not_matter(lambda size: Jsonl(sizes_of(size)), path, sizes)
