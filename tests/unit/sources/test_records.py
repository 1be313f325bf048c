"""Records: each read for what it holds, each fault a sentence."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Document, Reading, Skipped
from vocabtrim.sources.records import OTHER_TOKENIZER, contents_of, documents_of
from vocabtrim.tokens.messages import Conversation

V = 100
SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
GENERATED = {
    "id": "1",
    "messages": SAID[:1],
    "completion": "text",
    "completion_ids": [5, 99, 0],
    "tokenizer": "sha256:ours",
}


def found(record: Any, role: str = "assistant", field: str | None = None) -> list[tuple[Any, Any]]:
    """Return contents and warnings, ids as a list."""
    pairs = contents_of(record, Reading("sha256:ours", V, role, field))
    return [
        (list(one.tolist()) if isinstance(one, np.ndarray) else one, warning)
        for one, warning in pairs
    ]


def only(record: Any, role: str = "assistant", field: str | None = None) -> Any:
    ((content, warning),) = found(record, role, field)
    assert warning is None
    return content


@pytest.mark.parametrize(
    ("record", "content"),
    [
        ({"text": "a\r\nb"}, "a\r\nb"),
        ({"prompt": "p"}, "p"),
        ({"prompt": "p", "text": "t"}, "t"),
        ({"prompt": "p", "completion": "c"}, "c"),
        ({"prompt": "p", "completion": None}, "p"),
        ({"prompt": "p", "response": "r"}, "r"),
        ({"prompt": "p", "response": None}, "p"),
        ({"text": None}, ""),
        ({"text": ""}, ""),
        ({"text": None, "messages": None}, ""),
        ({**GENERATED, "completion_ids": None}, "text"),
    ],
)
def test_records_of_text(record: dict[str, Any], content: str) -> None:
    assert only(record) == content


@pytest.mark.parametrize("name", ["messages", "conversations", "conversation", "prompt"])
def test_records_of_messages(name: str) -> None:
    assert only({"text": "t", name: SAID}) == (Conversation(SAID) if name != "prompt" else "t")
    assert only({name: SAID}) == Conversation(SAID)
    tools = [{"type": "function"}]
    assert only({name: SAID, "tools": tools}) == Conversation(SAID, tools)


def test_ids_of_this_tokenizer_are_used_as_they_are() -> None:
    assert only(GENERATED) == [5, 99, 0]
    assert only({**GENERATED, "completion_ids": "[5, 99]"}) == [5, 99]
    ((ids, _),) = contents_of(GENERATED, Reading("sha256:ours", V))
    assert isinstance(ids, np.ndarray)
    assert ids.dtype == np.int64


@pytest.mark.parametrize("other", ["sha256:theirs", None])
def test_ids_of_another_tokenizer_are_not(other: str | None) -> None:
    assert found({**GENERATED, "tokenizer": other}) == [("text", OTHER_TOKENIZER)]


@pytest.mark.parametrize("role", ["user", "system", "all"])
def test_for_other_roles_a_completion_is_a_conversation(role: str) -> None:
    expected = Conversation([SAID[0], {"role": "assistant", "content": "text"}])
    assert only(GENERATED, role) == expected
    assert only({"prompt": "a", "completion": "text"}, role) == expected


def test_completions_that_are_messages_count_alone() -> None:
    record = {"prompt": [*SAID, SAID[0]], "completion": [SAID[1]]}
    assert only(record) == Conversation([*SAID, *SAID], None, 3)
    assert only(record, "all") == Conversation([*SAID, *SAID], None, 0)


LOG = {
    "request": {"messages": [*SAID, SAID[0]]},
    "response": {"choices": [{"message": SAID[1], "finish_reason": "stop", "token_ids": [1, 2]}]},
}
WITHOUT_IDS = {"choices": [{"message": SAID[1], "finish_reason": "stop"}]}


def test_of_a_logged_chat_only_what_is_new_counts() -> None:
    record = {**LOG, "response": WITHOUT_IDS}
    assert only(record) == Conversation([*SAID, *SAID], None, 3)
    assert only(record, "user") == Conversation([*SAID, *SAID], None, 2)
    assert only(record, "system") == Conversation([*SAID, *SAID], None, 2)
    assert only(record, "all") == Conversation([*SAID, *SAID], None, 0)


def test_logged_ids_are_used_where_their_tokenizer_is_named() -> None:
    assert only({**LOG, "tokenizer": "sha256:ours"}) == [1, 2]
    assert found(LOG) == [(Conversation([*SAID, *SAID], None, 3), OTHER_TOKENIZER)]
    assert only({**LOG, "tokenizer": "sha256:ours"}, "user").counted_from == 2
    assert only(LOG, field="response.choices.0.token_ids") == [1, 2]


def test_an_answer_that_was_cut_off_has_no_turn_end() -> None:
    choice = {"message": {**SAID[1], "reasoning": "think "}, "finish_reason": "length"}
    assert only({"messages": SAID[:1], "choices": [choice]}) == "think b"
    assert only({"choices": [{"text": "b", "finish_reason": "stop"}]}) == "b"


def test_every_answer_is_a_document_and_the_question_one() -> None:
    answers = [{"message": {"role": "assistant", "content": text}} for text in "xy"]
    record = {"messages": SAID[:1], "choices": answers}
    assert [len(content.messages) for content, _ in found(record)] == [2, 2]
    assert [content.messages[-1]["content"] for content, _ in found(record)] == ["x", "y"]
    assert len(found(record, "user")) == 1
    assert len(found(record, "all")) == 2


def test_a_call_is_text_enough_beside_ids() -> None:
    call = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": call}
    record = {"messages": SAID[:1], "choices": [{"message": message, "token_ids": [1]}]}
    ((content, warning),) = found(record)
    assert content.messages[-1]["tool_calls"] == call
    assert warning == OTHER_TOKENIZER


@pytest.mark.parametrize(
    ("record", "field", "content"),
    [
        ({"text": "t", "body": "b"}, "body", "b"),
        ({"a": {"b": [{"c": "deep"}]}}, "a.b.0.c", "deep"),
        ({"a.b": "dotted", "a": {"b": "x"}}, "a.b", "dotted"),
        ({"a": None}, "a", ""),
        ({"a": []}, "a", ""),
        ({"a": SAID}, "a", Conversation(SAID)),
        ({"a": [{"from": "human", "value": "a"}]}, "a", Conversation(SAID[:1])),
        ({"a": [5, 99]}, "a", [5, 99]),
        ({"prompt_token_ids": [5], "text": "t"}, "prompt_token_ids", [5]),
    ],
)
def test_a_field_that_is_asked_for_is_read(
    record: dict[str, Any], field: str, content: Any
) -> None:
    assert only(record, field=field) == content


@pytest.mark.parametrize(
    ("record", "field", "message"),
    [
        ({"b": 1, "c": 2}, "a", "no field 'a' in it; it has b, c"),
        ({"a": [1]}, "a.1", "no field 'a.1'"),
        ({"a": "text"}, "a.b", "no field 'a.b'"),
        ({"a": 5}, "a", "`a` must be text, a list of messages or a list of ids, found a number"),
        ({"a": ["x"]}, "a", "found a list"),
        ({"a": {"b": 1}}, "a", "found an object"),
        ({"a": [True]}, "a", "found a list"),
        ({"a": [100]}, "a", "`a` has an id outside the 100 ids"),
        ([], "a", "a record must be a JSON object, found a list"),
    ],
)
def test_a_field_that_cannot_be_read_is_refused(record: Any, field: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        found(record, field=field)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"x": 1, "a": 2}', "needs one of completion_ids, .*, and this one has a, x; --field"),
        ("{}", "this one has nothing"),
        ("[1, 2]", "must be a JSON object, found a list"),
        ('{"text": 5}', "`text` must be text, found a number"),
        ('{"prompt": {}}', "`prompt` must be text, found an object"),
        ('{"prompt": ["a"]}', "message 1 is no object"),
        ('{"completion": {}}', "`completion` must be text, found an object"),
        ('{"messages": "a"}', "`messages` must be a list, or one as JSON"),
        ('{"messages": [], "tools": "{"}', "`tools` must be a list"),
        ('{"completion_ids": 5, "tokenizer": "sha256:ours"}', "must be a list, found a number"),
        ('{"completion_ids": [1.0], "tokenizer": "sha256:ours"}', "must be a list of integers"),
        ('{"completion_ids": [true], "tokenizer": "sha256:ours"}', "must be a list of integers"),
        ('{"completion_ids": [1]}', "no text beside them; --field takes ids as they are"),
        ('{"completion_ids": [100], "tokenizer": "sha256:ours"}', "has an id outside the 100"),
        ('{"completion_ids": [-1], "tokenizer": "sha256:ours"}', "has an id outside"),
        ('{"completion_ids": [9223372036854775808], "tokenizer": "sha256:ours"}', "outside"),
        ('{"choices": [{"text": "", "logprobs": 1, "token_ids": [1]}]}', "no text beside them"),
        ('{"messages": 5, "response": "a"}', "`messages` must be a list, found a number"),
    ],
)
def test_what_is_no_record_is_refused(line: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        found(json.loads(line))


def test_a_long_list_of_fields_is_cut_short() -> None:
    with pytest.raises(CalibrationError, match=r"has c0, .*, 88 more; --field") as caught:
        found({f"c{number}": 1 for number in range(100)})
    assert len(str(caught.value)) < 250


def test_documents_say_where_they_stand() -> None:
    reading = Reading("sha256:ours", V)
    (document,) = documents_of({"text": "a", "domain": "d"}, reading, "file", 7)
    assert isinstance(document, Document)
    assert (document.file, document.line, document.domain) == ("file", 7, "d")
    (document,) = documents_of({"text": "a", "domain": 5}, reading, "file", 7)
    assert isinstance(document, Document)
    assert document.domain is None
    (skipped,) = documents_of({"text": 5}, reading, "file", 7)
    assert skipped == Skipped("file", 7, "`text` must be text, found a number")
