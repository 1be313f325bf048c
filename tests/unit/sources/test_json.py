"""JSON that is not on lines: records by their structure, whatever is inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reading import assert_blocks_do_not_matter, contents, read, sizes_of, told
from vocabtrim.sources import json as source
from vocabtrim.sources.cutting import Ends
from vocabtrim.sources.json import PLUGIN, Json, RecordScanner

NASTY = st.text(alphabet='a\\"{}[],: \nué🙂', max_size=12)
RECORDS = st.lists(
    st.fixed_dictionaries({"text": NASTY, "more": st.lists(st.dictionaries(NASTY, NASTY))})
)


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@settings(deadline=None, max_examples=25)
@given(
    records=RECORDS,
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    array=st.booleans(),
    step=st.sampled_from([3, 16, 1 << 20]),
    sizes=st.sets(st.integers(1, 80), min_size=1, max_size=2),
)
def test_records_are_found_whatever_is_in_them(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,
    array: bool,
    step: int,
    sizes: set[int],
) -> None:
    path = tmp_path_factory.mktemp("json") / "x"
    style: dict[str, Any] = {"indent": indent, "ensure_ascii": ascii_only}
    text = (
        json.dumps(records, **style)
        if array
        else "\n".join(json.dumps(record, **style) for record in records)
    )
    written(path, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "STEP", step)
        assert contents(read(PLUGIN, path)) == [record["text"] for record in records]
        assert_blocks_do_not_matter(lambda size: Json(sizes_of(size)), path, sizes)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b'{"text":"a"}', b"{", b"}", b"[", b"]", b'"', b"\\", b",", b"\n"])),
    st.integers(1, 40),
)
def test_blocks_do_not_matter_in_nonsense(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], size: int
) -> None:
    path = written(tmp_path_factory.mktemp("json") / "x", b"".join(parts))
    found = told(read(PLUGIN, path))
    documents = [one for one in found if one[1] == "text"]
    again = told(read(Json(sizes_of(size)), path))
    assert [one for one in again if one[1] == "text"] == documents


def test_lines_are_those_where_records_begin(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x", '\ufeff[\n {"text":\n  "a"},\n\n {"text": "b"}, {"text": "c"}\n]\n'
    )
    assert told(read(PLUGIN, path)) == [(2, "text", "a"), (5, "text", "b"), (5, "text", "c")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"text": "a"}, {"text": oops}, {"text": "c"}]', ["a", "it is not valid JSON", "c"]),
        ('[{"text": "a"}, {"text": "\\ud83d"}]', ["a", "half a character"]),
        ('[{"text": "a"}, 5, {"text": "c"}]', ["a", "what stands here is no JSON object", "c"]),
        ('[{"text": "a"}, [1], {"text": "c"}]', ["a", "must be a JSON object, found a list", "c"]),
        ('[{"text": "a"}, {"text": "b', ["a", "it is not valid JSON"]),
        ('[{"text": "a"}} {"text": "b"}]', ["a", "what stands here is no JSON", "b"]),
        ('{"text": "a"}\n{\n"text": "b"}', ["a", "b"]),
        ('[{"text": "a"}]\n[{"text": "b"}]', ["a", "found a list"]),
        ("plain", ["what stands here is no JSON object"]),
        ("[]", []),
        ("[" * 100_000, ["nested too deeply"]),
        ('[{"text": ' + "[" * 100_000 + "]" * 100_000 + "}]", ["nested too deeply"]),
    ],
)
def test_what_is_wrong_costs_itself(tmp_path: Path, content: str, expected: list[str]) -> None:
    found = told(read(PLUGIN, written(tmp_path / "x", content)))
    for (_, kind, shown), part in zip(found, expected, strict=False):
        assert part in shown if kind == "skipped" else part == shown
    assert len(found) >= len(expected)


def test_bytes_that_are_not_utf8_cost_their_record(tmp_path: Path) -> None:
    path = written(tmp_path / "x", b'[{"text": "\xff"}, {"text": "b"}]')
    assert [kind for _, kind, _ in told(read(PLUGIN, path))] == ["skipped", "text"]


def test_an_escape_can_lie_across_two_chunks() -> None:
    scanner = RecordScanner(at_start=False)
    assert scanner.feed(b'{"a": "\\') is None
    assert scanner.feed(b'"}') is None
    assert scanner.feed(b'"}{}') == Ends(2, 4)
    scanner = RecordScanner(at_start=False)
    assert scanner.feed(b'{"a": "\\') is None
    assert scanner.feed(b'\\"}') == Ends(3, 3)


def test_the_array_is_opened_once() -> None:
    scanner = RecordScanner(at_start=True)
    assert scanner.feed(b"  ") is None
    assert scanner.feed(b'[{"a": [1]}, [2]]') == Ends(11, 16)
