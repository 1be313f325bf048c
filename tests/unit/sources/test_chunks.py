"""Chunks: a stream put together is the response that would have come whole."""

from __future__ import annotations

from typing import Any

import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.chunks import joined


def chunk(delta: dict[str, Any], index: int = 0, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, **choice}]}


def test_a_chat_in_pieces() -> None:
    whole = joined(
        [
            chunk({"role": "assistant", "content": ""}, prompt_token_ids=[9]),
            chunk({"reasoning_content": "Hm"}, token_ids=[1]),
            chunk({"reasoning_content": "m."}, token_ids=[2, 3]),
            chunk({"content": "Yes"}, token_ids=[4], finish_reason=None),
            chunk({"content": None}, token_ids=[5], finish_reason="stop"),
            {"choices": [], "usage": {}},
        ]
    )
    assert whole == {
        "choices": [
            {
                "message": {"content": "Yes", "reasoning_content": "Hmm."},
                "finish_reason": "stop",
                "token_ids": [1, 2, 3, 4, 5],
            }
        ]
    }


def test_choices_that_come_mixed() -> None:
    whole = joined(
        [chunk({"content": "b"}, 1), chunk({"content": "a"}), chunk({"content": "B"}, 1)]
    )
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert texts == ["a", "bB"]
    assert [choice["token_ids"] for choice in whole["choices"]] == [None, None]


def test_calls_that_come_in_parts() -> None:
    parts = [
        {"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}},
        {"index": 1, "function": {"name": "g", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 0},
        "odd",
    ]
    whole = joined([chunk({"tool_calls": [part]}) for part in parts])
    assert whole["choices"][0]["message"]["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_bare_text_in_pieces() -> None:
    pieces = [
        {"choices": [{"text": "Hel", "response_token_ids": [1]}]},
        {"choices": [{"text": "lo", "response_token_ids": [2], "finish_reason": "length"}]},
    ]
    assert joined(pieces)["choices"] == [
        {"text": "Hello", "finish_reason": "length", "token_ids": [1, 2]}
    ]


def test_the_servers_own_streams() -> None:
    llama = [
        {"content": "Hel", "tokens": [1], "stop": False},
        {"content": "lo", "tokens": [2, 3], "stop": False},
        {"content": "", "tokens": [], "stop": True, "stop_type": "eos"},
    ]
    assert joined(llama) == {**llama[-1], "content": "Hello", "tokens": [1, 2, 3]}
    sglang = [
        {"text": "Hel", "output_ids": [1], "meta_info": {"finish_reason": None}},
        {"text": "Hello", "output_ids": [1, 2], "meta_info": {"finish_reason": {"type": "stop"}}},
    ]
    assert joined(sglang) == sglang[-1]


def test_nothing_is_no_answer() -> None:
    assert joined([]) == joined([{"choices": []}]) == {"choices": []}
    assert joined([{"choices": None}]) == joined([{"choices": ["odd"]}]) == {"choices": []}


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([chunk({"content": "a"}), "b"], "a chunk of its response is no object"),
        ([chunk({"content": "a"}), {"error": {"message": "x"}}], "answered with an error"),
    ],
)
def test_a_stream_that_failed_is_refused(chunks: list[Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        joined(chunks)
