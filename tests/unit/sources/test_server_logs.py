"""Server logs: one exchange, in whatever wrapping it was logged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.server_logs import Exchange, exchange_of, is_logged

ASKED = [{"role": "user", "content": "Hi"}]
SAID = {"role": "assistant", "content": "Hello"}
CHAT = {"choices": [{"index": 0, "message": SAID, "finish_reason": "stop"}], "usage": {}}
REQUEST = {"model": "m", "messages": ASKED, "tools": [{"type": "function"}]}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]},
    {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
]
EVENTS = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"


def exchange(**record: Any) -> Exchange:
    assert is_logged(record)
    return exchange_of(record)


@pytest.mark.parametrize(
    "record",
    [
        {"request": REQUEST, "response": CHAT},
        {"request": json.dumps(REQUEST), "response": json.dumps(CHAT)},
        {"request_body": REQUEST, "response_body": CHAT},
        {"request": {"method": "POST", "body": REQUEST}, "response": {"status": 200, "body": CHAT}},
        {"custom_id": "1", "messages": ASKED, "response": {"status_code": 200, "body": CHAT}},
        {"request": REQUEST, "response": {"status_code": 200, "body": json.dumps(CHAT)}},
        {"messages": ASKED, "response": CHAT},
        {"messages": ASKED, **CHAT},
        {"request": REQUEST, "response": CHUNKS},
        {"request": REQUEST, "response": EVENTS},
        {"request": REQUEST, "response": {"body": EVENTS}},
        {"messages": ASKED, "response": json.dumps(CHUNKS)},
        {"request": REQUEST, "response": EVENTS.replace("\n", "\r\n"), "error": None},
    ],
)
def test_every_wrapping_holds_the_same_exchange(record: dict[str, Any]) -> None:
    found = exchange(**record)
    assert found.asked == ASKED
    assert found.is_chat
    (answer,) = found.answers
    assert (answer.message, answer.cut_off, answer.ids) == (SAID, False, None)
    assert found.tools == (REQUEST["tools"] if "request" in str(record.keys()) else None)


@pytest.mark.parametrize(
    ("response", "ids", "cut_off", "is_chat"),
    [
        ({"choices": [{"message": SAID, "token_ids": [1, 2]}]}, [1, 2], False, True),
        ({"choices": [{"message": SAID, "response_token_ids": [3]}]}, [3], False, True),
        ({"choices": [{"message": SAID}], "__verbose": {"tokens": [4]}}, [4], False, True),
        ({"choices": [{"message": SAID}], "__verbose": {"tokens": []}}, None, False, True),
        (
            {"choices": [{"text": "Hello", "token_ids": [5], "finish_reason": "length"}]},
            [5],
            True,
            False,
        ),
        (
            {"text": "Hello", "output_ids": [6], "meta_info": {"finish_reason": {"type": "stop"}}},
            [6],
            False,
            False,
        ),
        ({"text": "Hello", "meta_info": {"finish_reason": {"type": "length"}}}, None, True, False),
        ({"content": "Hello", "tokens": [7], "stop": True, "stop_type": "eos"}, [7], False, False),
        ({"content": "Hello", "tokens": [], "stop_type": "limit"}, None, True, False),
    ],
)
def test_ids_are_where_servers_put_them(
    response: dict[str, Any], ids: list[int] | None, cut_off: bool, is_chat: bool
) -> None:
    found = exchange(request={"prompt": "Hi"}, response=response)
    (answer,) = found.answers
    assert answer.message == SAID
    assert (answer.ids, answer.cut_off, found.is_chat) == (ids, cut_off, is_chat)
    assert found.asked == ASKED


def test_ids_of_a_stream_are_joined() -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": part}, "token_ids": [number]}]}
        for number, part in enumerate("ab")
    ]
    (answer,) = exchange(response=chunks).answers
    assert answer.ids == [0, 1]


def test_several_answers() -> None:
    choices = [{"message": {"role": "assistant", "content": text}} for text in "ab"]
    found = exchange(messages=ASKED, response={"choices": choices})
    assert [answer.message["content"] for answer in found.answers] == ["a", "b"]


def test_the_tokenizer_is_named_by_record_or_response() -> None:
    assert exchange(response={**CHAT, "tokenizer": "t"}).tokenizer == "t"
    assert exchange(response=CHAT, tokenizer="t").tokenizer == "t"
    assert exchange(response=CHAT).tokenizer is None


@pytest.mark.parametrize("text", ["Hello", '{"answer": 1}', "{not JSON", "[1, 2]"])
def test_text_in_place_of_a_response_is_the_answer(text: str) -> None:
    found = exchange(prompt="Hi", response=text)
    assert found.answers[0].message == {"role": "assistant", "content": text}
    assert (found.asked, found.is_chat) == (ASKED, False)
    assert exchange(messages=ASKED, response=text).is_chat


def test_what_no_earlier_request_had() -> None:
    assert Exchange(ASKED, [], is_chat=True).new_from == 0
    assert Exchange([*ASKED, SAID, *ASKED], [], is_chat=True).new_from == 2
    assert Exchange("odd", [], is_chat=True).new_from == 0


@pytest.mark.parametrize(
    "record",
    [
        {"text": "a", "tokens": 12},
        {"text": "a", "choices": ["A", "B"]},
        {"question": "?", "choices": [{"text": "a", "label": "A"}]},
        {"text": "a", "choices": []},
        {"messages": ASKED, "response": None},
        {"content": "a", "title": "b"},
        {"text": "a", "error": {"x": 1}},
        {"response": [1, 2]},
    ],
)
def test_rows_of_data_sets_are_no_logs(record: dict[str, Any]) -> None:
    assert not is_logged(record)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"request": REQUEST, "response": {"status_code": 400, "body": {}}},
            r"failed \(status 400",
        ),
        ({"request": REQUEST, "response": {"error": {"message": "x"}}}, "answered with an error"),
        ({"custom_id": "1", "response": None, "error": {"code": "x"}}, "answered with an error"),
        ({"request": REQUEST, "response": {"choices": []}}, "there is no answer"),
        ({"request": REQUEST, "response": {}}, "there is no answer"),
        ({"request": REQUEST, "response": "data: [DONE]"}, "there is no answer"),
        ({"request": REQUEST, "response": {"choices": 5}}, "`choices` of its response must be"),
        ({"request": REQUEST, "response": {"choices": [{"x": 1}]}}, "no message and no text"),
        ({"request": REQUEST, "response": '{"choices": [{"mess'}, "not valid JSON"),
        ({"request": REQUEST, "response": "data: {"}, "not valid JSON"),
        ({"request": [1], "response": CHAT}, "`request` must be an object"),
        ({"request": REQUEST, "response": "5 [1]", "x": 1}, None),
    ],
)
def test_an_exchange_without_an_answer_is_refused(
    record: dict[str, Any], message: str | None
) -> None:
    assert is_logged(record)
    if message is None:
        assert exchange_of(record).answers[0].message["content"] == record["response"]
        return
    with pytest.raises(CalibrationError, match=message):
        exchange_of(record)
