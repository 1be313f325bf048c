"""Records: each read for what it holds, each fault named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Document, Reading
from vocabtrim.sources.jsonl import OTHER_TOKENIZER, PLUGIN
from vocabtrim.tokens.messages import Conversation

V = 100
OURS = Reading("sha256:ours", V)
SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
GENERATED = {
    "id": "1",
    "messages": SAID[:1],
    "completion": "text",
    "completion_ids": [5, 99, 0],
    "tokenizer": "sha256:ours",
}


def read(path: Path, *lines: Any, reading: Reading = OURS) -> list[Document]:
    """Read lines; what is no bytes is written as JSON."""
    raw = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    path.write_bytes(b"\n".join(raw))
    return list(PLUGIN.read(path, reading))


def only(path: Path, record: Any, role: str = "assistant") -> Document:
    (document,) = read(path, record, reading=Reading("sha256:ours", V, role))
    return document


@pytest.mark.parametrize(
    ("record", "content"),
    [
        ({"text": "a\r\nb"}, "a\r\nb"),
        ({"prompt": "p"}, "p"),
        ({"prompt": "p", "text": "t"}, "t"),
        ({"prompt": "p", "completion": "c"}, "c"),
        ({"prompt": "p", "completion": None}, "p"),
        ({"text": None}, ""),
        ({"text": ""}, ""),
        ({"text": "\U0001f642é"}, "🙂é"),
        ({**GENERATED, "completion_ids": None}, "text"),
    ],
)
def test_records_of_text(tmp_path: Path, record: dict[str, Any], content: str) -> None:
    document = only(tmp_path / "x", record)
    assert (document.content, document.warning) == (content, None)


def test_records_of_messages(tmp_path: Path) -> None:
    tools = [{"type": "function"}]
    for given in (tools, json.dumps(tools)):
        document = only(tmp_path / "x", {"text": "t", "messages": SAID, "tools": given})
        assert document.content == Conversation(SAID, tools)
    for nothing in (None, "", []):
        document = only(tmp_path / "x", {"messages": SAID, "tools": nothing})
        assert document.content == Conversation(SAID, None)


def test_ids_of_this_tokenizer_are_used_as_they_are(tmp_path: Path) -> None:
    document = only(tmp_path / "x", GENERATED)
    assert isinstance(document.content, np.ndarray)
    assert document.content.dtype == np.int64
    assert document.content.tolist() == [5, 99, 0]
    assert document.warning is None


@pytest.mark.parametrize("other", ["sha256:theirs", None])
def test_ids_of_another_tokenizer_are_not(tmp_path: Path, other: str | None) -> None:
    document = only(tmp_path / "x", {**GENERATED, "tokenizer": other})
    assert (document.content, document.warning) == ("text", OTHER_TOKENIZER)


@pytest.mark.parametrize("role", ["user", "system", "all"])
def test_for_other_roles_a_completion_is_a_conversation(tmp_path: Path, role: str) -> None:
    expected = Conversation([SAID[0], {"role": "assistant", "content": "text"}])
    assert only(tmp_path / "x", GENERATED, role).content == expected
    assert only(tmp_path / "x", {"prompt": "a", "completion": "text"}, role).content == expected


def test_messages_that_a_completion_answers_are_a_list(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="`messages` must be a list, found str"):
        only(tmp_path / "x", {**GENERATED, "messages": "a"}, "all")


def test_places_domains_and_blank_lines(tmp_path: Path) -> None:
    first = b'\xef\xbb\xbf{"text": "one", "domain": "d"}\r'
    documents = read(tmp_path / "x", first, b"", b" \t\r", {"text": "two", "domain": 3})
    assert [(d.line, d.content, d.domain) for d in documents] == [(1, "one", "d"), (4, "two", None)]
    assert [d.stop for d in documents] == [len(first) + 1, (tmp_path / "x").stat().st_size]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut', "not valid JSON"),
        (b"nonsense", "not valid JSON .* one object a line"),
        (b"{" * 3, "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[1, 2]", "must be a JSON object, found list"),
        (b'"text"', "found str"),
        (b'{"text": "\xff"}', "byte 0xff is not UTF-8"),
        (b'{"text": "\\ud83d"}', "half a character"),
        (b'{"x": 1, "a": 2}', "needs one of completion_ids, .*; this one has a, x"),
        (b"{}", "this one has nothing"),
        (b'{"text": 5}', "`text` must be text, found int"),
        (b'{"prompt": ["a"]}', "`prompt` must be text, found list"),
        (b'{"completion": {}}', "`completion` must be text, found dict"),
        (b'{"messages": "a"}', "`messages` must be a list, found str"),
        (b'{"messages": [{"content": "a"}]}', "message 1 is no object with a `role`"),
        (b'{"messages": [], "tools": "{"}', "`tools` is no JSON"),
        (b'{"messages": [], "tools": {"a": 1}}', "`tools` must be a list, found dict"),
        (b'{"completion_ids": 5}', "must be a list of integers"),
        (b'{"completion_ids": [1.0]}', "must be a list of integers"),
        (b'{"completion_ids": [true]}', "must be a list of integers"),
        (b'{"completion_ids": [1]}', "no completion to encode instead"),
        (b'{"completion_ids": [100], "tokenizer": "sha256:ours"}', "id 100 lies outside the 100"),
        (b'{"completion_ids": [-1], "tokenizer": "sha256:ours"}', "id -1 lies outside"),
    ],
)
def test_a_line_that_is_no_record_is_refused_with_its_place(
    tmp_path: Path, line: bytes, message: str
) -> None:
    with pytest.raises(CalibrationError, match=f"x, line 3: .*{message}") as caught:
        read(tmp_path / "x", {"text": "fine"}, b"", line)
    assert caught.value.line == 3


def test_characters_in_two_escapes_are_whole(tmp_path: Path) -> None:
    assert only(tmp_path / "x", b'{"text": "\\ud83d\\uDE42"}').content == "🙂"


def test_reading_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"text": "one"}\nnonsense\n')
    documents = PLUGIN.read(tmp_path / "x", OURS)
    assert next(documents).content == "one"
    with pytest.raises(CalibrationError):
        next(documents)
