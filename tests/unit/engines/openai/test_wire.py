"""Requests and answers in the forms of the servers that there are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.errors import ServerError
from vocabtrim.engines.openai.wire import (
    EXTENSIONS,
    Asking,
    MalformedAnswer,
    hashed,
    read_complaint,
    read_models,
    read_text,
)

MESSAGES = [{"role": "user", "content": "red"}]


def body(choice: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(
        {"choices": [{"finish_reason": "stop", "index": 0, **choice}], **more}
    ).encode()


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **more}}


def test_a_greedy_chat_request() -> None:
    asking = Asking("m", 64)
    assert asking.path == "/chat/completions"
    assert asking.document("p1", MESSAGES, {}) == {
        "model": "m",
        "max_tokens": 64,
        "temperature": 0.0,
        "stream": False,
        "messages": MESSAGES,
    }


def test_a_raw_request_has_the_text() -> None:
    asking = Asking("m", 64, raw=True)
    assert asking.path == "/completions"
    document = asking.document("p1", MESSAGES, {})
    assert document["prompt"] == "red"
    assert "messages" not in document


def test_a_sampled_request_shapes_the_whole_distribution() -> None:
    document = Asking("m", 64, temperature=0.7).document("p1", MESSAGES, EXTENSIONS["vllm"])
    assert (document["temperature"], document["top_p"], document["top_k"]) == (0.7, 1.0, -1)
    assert (document["min_p"], document["repetition_penalty"]) == (0.0, 1.0)
    asked = Asking("m", 64, temperature=0.7, top_k=20, top_p=0.9)
    document = asked.document("p1", MESSAGES, EXTENSIONS["llamacpp"])
    assert (document["top_p"], document["top_k"], document["repeat_penalty"]) == (0.9, 20, 1.0)


def test_seeds_belong_to_run_and_prompt() -> None:
    def seed(root: int, key: str) -> int:
        found = Asking("m", 64, temperature=1.0, seed=root).document(key, MESSAGES, {})["seed"]
        assert isinstance(found, int)
        return found

    keys = [f"p{index}/{sample}" for index in range(20) for sample in range(2)]
    seeds = [seed(root, key) for root in (0, 1) for key in keys]
    assert len(set(seeds)) == len(seeds)
    assert seed(0, "p0/0") == seed(0, "p0/0")
    # what llama-server takes for a random one, or cannot hold, is never sent
    assert all(0 <= one < 1 << 31 for one in seeds)


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_every_known_server_is_asked_for_ids(kind: str | None) -> None:
    fields = EXTENSIONS[kind]
    assert fields.get("return_token_ids") or (fields["return_tokens"] and fields["verbose"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
)
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match=next(iter(wrong))):
        Asking(**({"model": "m", "max_new_tokens": 4} | wrong))


@pytest.mark.parametrize(
    "answer",
    [
        body(chat("red one") | {"token_ids": [6, 9, 2]}, prompt_token_ids=[1, 3]),
        body(chat("red one") | {"response_token_ids": [6, 9, 2], "prompt_token_ids": [1]}),
        body(chat("red one"), __verbose={"content": "red one", "tokens": [6, 9, 2]}),
        body({"text": "red one", "token_ids": [6, 9, 2]}),
        body({"text": "red one"}, __verbose={"tokens": [6, 9, 2]}),
    ],
    ids=["vllm", "sglang", "llama-server", "vllm raw", "llama-server raw"],
)
def test_ids_are_found_where_each_server_puts_them(answer: bytes) -> None:
    text = read_text(answer)
    assert (text.content, text.token_ids, text.finish_reason) == ("red one", (6, 9, 2), "stop")
    assert text.reasoning is None


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"token_ids": None},
        {"token_ids": []},
        {"token_ids": ["6"]},
        {"token_ids": [6, True]},
        {"token_ids": [6, -1]},
        {"token_ids": [6.0]},
        {"token_ids": {"6": 1}},
    ],
)
def test_what_are_no_ids_are_none(choice: dict[str, Any]) -> None:
    text = read_text(body(chat("red") | choice, __verbose="no"))
    assert (text.content, text.token_ids) == ("red", None)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart(name: str) -> None:
    text = read_text(body(chat("red", **{name: "why red"})))
    assert (text.content, text.reasoning) == ("red", "why red")
    # cut off while it was thinking
    assert read_text(body(chat(None, **{name: "why"}))).content == ""


def test_no_text_is_one_only_where_ids_or_reasoning_say_so() -> None:
    assert read_text(body(chat(None) | {"token_ids": [2]})).content == ""
    assert read_text(body(chat(""))).content == ""
    with pytest.raises(MalformedAnswer, match="no text"):
        read_text(body(chat(None)))


def test_finish_reasons_are_kept_but_for_those_that_end_nothing() -> None:
    for reason in ("stop", "length", "content_filter", "eos_token"):
        assert read_text(body(chat("red") | {"finish_reason": reason})).finish_reason == reason
    for reason in ("abort", "error"):
        with pytest.raises(MalformedAnswer, match=f"ended the answer with '{reason}'"):
            read_text(body(chat("red") | {"finish_reason": reason}))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"choices": [{"mess', "not JSON"),
        (b"\xff\xfe\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no 'choices'"),
        (b'{"choices": {}}', "no 'choices'"),
        (b'{"choices": []}', "choices has no 0"),
        (b'{"choices": [null]}', "choices has no 0"),
        (b'{"choices": [{}]}', "no 'finish_reason'"),
        (body({"finish_reason": None}), "no 'finish_reason'"),
        (body({"message": []}), "no 'message'"),
        (body(chat(["red"])), "no text"),
        (body(chat(7)), "no text"),
        (b'{"error": {"message": "out of memory"}}', "is an error .out of memory"),
    ],
)
def test_what_is_no_answer_says_why(answer: bytes, says: str) -> None:
    with pytest.raises(MalformedAnswer, match=says):
        read_text(answer)


def test_halves_of_characters_are_replaced() -> None:
    text = read_text(rb'{"choices": [{"finish_reason": "length", "text": "ok \ud83d"}]}')
    assert text.content == "ok \N{REPLACEMENT CHARACTER}"
    whole = read_text(rb'{"choices": [{"finish_reason": "length", "text": "\ud83d\ude00"}]}')
    assert whole.content == "\N{GRINNING FACE}"


def test_models_are_listed_with_their_owners() -> None:
    listed = {"data": [{"id": "a", "owned_by": "vllm"}, {"id": "b"}, "?"]}
    assert read_models(json.dumps(listed).encode()) == {"a": "vllm", "b": None}
    with pytest.raises(MalformedAnswer, match="no 'data'"):
        read_models(b"{}")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b'{"error": {"message": "too long", "code": 400}}', "too long"),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"error": "busy"}', "busy"),
        (b'{"detail": [{"msg": "x"}]}', ""),
        (b"<html>", ""),
        (b"[" * 100_000, ""),
        (b'{"error": {"message": "two\\nlines \\u001b[31mred"}}', "two lines [31mred"),
    ],
)
def test_complaints_are_one_printable_line(answer: bytes, says: str) -> None:
    assert read_complaint(answer) == says


def test_long_complaints_are_cut() -> None:
    assert len(read_complaint(json.dumps({"message": "x" * 5000}).encode())) == 200


@given(st.integers(1, 64), st.lists(st.one_of(st.integers(), st.text())))
@settings(deadline=None)
def test_hashes_have_their_bits_and_no_state(bits: int, parts: list[object]) -> None:
    assert 0 <= hashed(bits, *parts) < 1 << bits
    assert hashed(bits, *parts) == hashed(bits, *parts)


def test_hashes_do_not_run_parts_together() -> None:
    assert hashed(64, "a", "bc") != hashed(64, "ab", "c")
    assert hashed(64, 1, "p") != hashed(64, 2, "p")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "content", "text", "finish_reason", "token_ids", "error"]
                ),
                inner,
            )
        ),
        max_leaves=20,
    )
)
@settings(deadline=None)
def test_any_json_is_an_answer_or_says_why_not(document: Any) -> None:
    raw = json.dumps(document).encode()
    try:
        text = read_text(raw)
    except MalformedAnswer:
        return
    text.content.encode("utf-8")
