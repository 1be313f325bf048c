"""Conversations: every form in use becomes the OpenAI form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.conversations import conversation_of
from vocabtrim.tokens.messages import Conversation

SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
BY_COLUMN = {"from": ["human", "gpt"], "value": ["a", "b"]}


def messages(value: Any, **record: Any) -> list[dict[str, Any]]:
    return [dict(message) for message in conversation_of(value, "messages", record).messages]


@pytest.mark.parametrize(
    "value",
    [
        SAID,
        json.dumps(SAID),
        [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
        [{"role": "human", "content": "a"}, {"role": "model", "content": "b"}],
        [{"from": "Human", "value": "a"}, {"from": "ChatGPT", "value": "b"}],
        BY_COLUMN,
        json.dumps(BY_COLUMN),
    ],
)
def test_every_form_is_one(value: Any) -> None:
    assert messages(value) == SAID


def test_other_speakers() -> None:
    spoken = ["system", "observation", "function_call", "tool", "function_response", "critic"]
    found = messages([{"from": role, "value": "x"} for role in spoken])
    roles = ["system", "tool", "assistant", "tool", "tool", "critic"]
    assert [message["role"] for message in found] == roles


def test_a_table_has_all_fields_in_every_message() -> None:
    row = {"role": None, "content": None, "from": "gpt", "value": None, "tool_calls": None}
    assert messages([row]) == [{"role": "assistant", "content": None}]
    row = {"role": "user", "content": "a", "from": None, "value": None, "name": "n"}
    assert messages([row])[0]["content"] == "a"
    assert messages([row])[0]["name"] == "n"


def test_tools_and_the_system_prompt_beside_messages() -> None:
    tools = [{"type": "function"}]
    for given in (tools, json.dumps(tools)):
        assert conversation_of(SAID, "messages", {"tools": given}) == Conversation(SAID, tools)
    for nothing in (None, "", []):
        assert conversation_of(SAID, "messages", {"tools": nothing}) == Conversation(SAID, None)
    with_system = [{"role": "system", "content": "s"}, *SAID]
    assert messages(SAID, system="s") == with_system
    assert messages(with_system, system="other") == with_system
    assert messages(SAID, system="") == messages(SAID, system=5) == SAID


def test_what_counts_moves_with_the_system_prompt() -> None:
    assert conversation_of(SAID, "messages", {}, 1).counted_from == 1
    assert conversation_of(SAID, "messages", {"system": "s"}, 1).counted_from == 2
    assert conversation_of(SAID, "messages", {"system": "s"}).counted_from == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a", "`messages` must be a list, or one as JSON"),
        (5, "`messages` must be a list, found a number"),
        (["a"], "message 1 is no object with a `role`"),
        ([*SAID, {"content": "a"}], "message 3 is no object with a `role`, or a `from`"),
        ([{"role": "user", "content": 5}], "the content of message 1 must be text"),
    ],
)
def test_what_is_no_message_is_refused(value: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        messages(value)


def test_tools_must_be_a_list() -> None:
    for tools, message in [("{", "`tools` must be a list, or one"), ({"a": 1}, "found an object")]:
        with pytest.raises(CalibrationError, match=message):
            conversation_of(SAID, "messages", {"tools": tools})
