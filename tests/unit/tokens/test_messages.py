"""Messages: what records say in many ways, templates see in one."""

from __future__ import annotations

from typing import Any

import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.messages import Conversation, prepared, texts_of

PARTS = [{"type": "text", "text": "a "}, {"type": "image_url", "image_url": {}}, {"text": "b"}]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (["hello"], "message 1 is no object with a `role`"),
        ([{"role": "user", "content": "x"}, {"content": "x"}], "message 2 is no object"),
        ([{"role": 3}], "message 1 is no object"),
        ([{"role": "user", "content": 5}], "content of message 1 .* found int"),
        ([{"role": "user", "content": {"text": "x"}}], "found dict"),
        ([{"role": "user", "content": ["x"]}], "content of message 1"),
    ],
)
def test_what_is_no_message_is_refused(messages: list[Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Conversation(messages)


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        ({"role": "user", "content": "x"}, ["x"]),
        ({"role": "assistant", "content": None, "reasoning": "why"}, ["why"]),
        ({"role": "assistant", "content": "x", "thinking": "why"}, ["why", "x"]),
        ({"role": "user", "content": PARTS}, ["a ", "b"]),
        ({"role": "user"}, []),
        ({"role": "user", "content": ""}, []),
    ],
)
def test_texts_of_a_message(message: dict[str, Any], texts: list[str]) -> None:
    Conversation([message])
    assert texts_of(message) == texts


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ({"content": None}, {"content": ""}),
        ({}, {"content": ""}),
        ({"content": "x", "tool_calls": None, "name": None}, {"content": "x"}),
        ({"content": "x", "tool_calls": []}, {"content": "x"}),
        (
            {"content": "x", "reasoning": "w"},
            {"content": "x", "reasoning": "w", "thinking": "w", "reasoning_content": "w"},
        ),
        (
            {"content": "x", "reasoning_content": "w", "thinking": "t"},
            {"content": "x", "reasoning_content": "w", "thinking": "t"},
        ),
    ],
)
def test_fields_that_templates_see(message: dict[str, Any], fields: dict[str, Any]) -> None:
    given = {"role": "assistant", **message}
    before = repr(given)
    assert prepared(given, takes_parts=False) == ({"role": "assistant", **fields}, False)
    assert repr(given) == before


def test_parts_are_joined_for_templates_of_text() -> None:
    message = {"role": "user", "content": PARTS}
    assert prepared(message, takes_parts=False) == ({"role": "user", "content": "a b"}, True)
    assert prepared(message, takes_parts=True) == (message, False)
    joined, lost = prepared({"role": "user", "content": PARTS[:1]}, takes_parts=False)
    assert (joined["content"], lost) == ("a ", False)


def test_text_becomes_a_part_for_templates_of_parts_only() -> None:
    message = {"role": "user", "content": "x"}
    wrapped, _ = prepared(message, takes_parts=True, takes_text=False)
    assert wrapped["content"] == [{"type": "text", "text": "x"}]
    assert prepared(message, takes_parts=False, takes_text=False)[0] == message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": 1}', {"a": 1}), ("not JSON", "not JSON"), ({"a": 1}, {"a": 1})],
)
def test_arguments_of_calls_are_parsed(arguments: Any, expected: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    fields, _ = prepared({"role": "assistant", "tool_calls": [call]}, takes_parts=False)
    assert fields["tool_calls"] == [{**call, "function": {"name": "f", "arguments": expected}}]


@pytest.mark.parametrize("call", ["f()", {"name": "f", "arguments": "{}"}, {"function": "f"}])
def test_calls_of_other_forms_are_left_alone(call: Any) -> None:
    fields, _ = prepared({"role": "assistant", "tool_calls": [call]}, takes_parts=False)
    assert fields["tool_calls"] == [call]
