"""What passed between a client and a server: requests, responses, streams.

Logs come in many wrappings around the same few things: a line has a `request`
and a `response`, or the response's `choices` with the request's `messages` beside
them, or the response of OpenAI's batch files in a `body`; either may be JSON in a
string. A response that was streamed is a list of chunks (`chunks.py`), or the text
of the event stream. All of it becomes an `Exchange`.

Token ids are where the servers put them: vLLM's `token_ids` and SGLang's
`response_token_ids` in a choice (requests ask with `return_token_ids`), SGLang's
own `output_ids`, llama-server's own `tokens`, and those in its `__verbose`.

A request that failed holds nothing to count, and is an error here. What the
messages say is not looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.chunks import IDS_OF_A_CHOICE, joined
from vocabtrim.sources.values import parsed

CUT_OFF = ("length", "limit", "abort")
"""Reasons of a server to end an answer that the model had not ended."""

RESPONSES = ("response", "response_body")

_SIGNS = frozenset({*RESPONSES, "choices", "output_ids", "content", "error"})
"""Fields of which a record of a log has one at least."""


@dataclass(frozen=True)
class Answer:
    """One answer of a server.

    Args:
        message: In the OpenAI form.
        cut_off: Whether the model did not come to its end.
        ids: Its token ids as logged, if they are.
    """

    message: Mapping[str, Any]
    cut_off: bool = False
    ids: Any = None


@dataclass(frozen=True)
class Exchange:
    """One request and what came back.

    Args:
        asked: Messages of the request, as logged; a bare prompt is one of the user.
        answers: One or more.
        is_chat: Whether the answer is a turn of a conversation, and no bare text.
        tools: Functions that could be called, as logged.
        tokenizer: Fingerprint of the tokenizer, where the record names one.
    """

    asked: Any
    answers: Sequence[Answer]
    is_chat: bool
    tools: Any = None
    tokenizer: Any = None

    @property
    def new_from(self) -> int:
        """The first message that no earlier request of the conversation had."""
        asked = self.asked if isinstance(self.asked, list) else []
        answers = [
            position
            for position, message in enumerate(asked)
            if isinstance(message, dict) and message.get("role") == "assistant"
        ]
        return answers[-1] + 1 if answers else 0


def is_logged(record: Mapping[str, Any]) -> bool:
    """Whether a record has a response in it, is one, or says that there was none."""
    if _SIGNS.isdisjoint(record):
        return False
    response = _first(record, *RESPONSES)
    if isinstance(response, list):
        return any(_is_response(one) for one in response)
    if response is None and isinstance(record.get("error"), dict):
        return "request" in record or "custom_id" in record
    return isinstance(response, str | dict) or _is_response(record)


def _is_response(value: Any) -> bool:
    """Whether this is what a server sends, and no row of a data set with such a field."""
    if not isinstance(value, dict):
        return False
    choices = value.get("choices")
    if isinstance(choices, list) and choices:
        return all(map(_is_choice, choices))
    native = isinstance(value.get("content"), str) and ("stop_type" in value or "stop" in value)
    return native or isinstance(value.get("output_ids"), list)


def _is_choice(value: Any) -> bool:
    # exams have choices too, with a text and a label
    if not isinstance(value, dict):
        return False
    said = isinstance(value.get("message") or value.get("delta"), dict) or "delta" in value
    return said or ("text" in value and ("finish_reason" in value or "logprobs" in value))


def exchange_of(record: Mapping[str, Any]) -> Exchange:
    """Return the exchange that a record of a log is about.

    Args:
        record: One of which `is_logged` is true.

    Raises:
        CalibrationError: The request failed, or there is no answer in it.
    """
    request = _first(record, "request", "request_body")
    request = {} if request is None else _body(request, is_log=True)
    if not isinstance(request, dict):
        raise CalibrationError("its `request` must be an object")
    given = _first(record, *RESPONSES)
    response = record if given is None else _body(given, is_log=bool(request))
    answers, is_chat = _answers(response)
    if not answers:
        raise CalibrationError("there is no answer in the response")
    asked = _first(request, "messages") or _first(record, "messages")
    # bare text in place of a response answers messages just as well
    is_chat = is_chat or (isinstance(response, str) and asked is not None)
    if asked is None:
        prompt = _first(request, "prompt", "text") or _first(record, "prompt")
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else []
    named = response.get("tokenizer") if isinstance(response, dict) else None
    return Exchange(
        asked,
        answers,
        is_chat,
        tools=_first(request, "tools") or _first(record, "tools"),
        tokenizer=named or record.get("tokenizer"),
    )


def _first(record: Mapping[str, Any], *names: str) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _body(value: Any, *, is_log: bool) -> Any:
    """Return what was sent: an object, a list of chunks, or bare text.

    Args:
        value: As logged.
        is_log: Whether text that looks like JSON must be some; otherwise it may
            be an answer that is written so.

    Raises:
        CalibrationError: The request failed, or the text is no JSON.
    """
    if isinstance(value, str):
        text = value.lstrip()
        if text.startswith("data:"):
            return _events(text)
        return _object_or_text(value, is_log=is_log) if text.startswith(("{", "[")) else value
    if isinstance(value, dict) and "choices" not in value:
        status = value.get("status_code", value.get("status"))
        if isinstance(status, int) and status >= 400:
            raise CalibrationError(f"the request failed (status {status})")
        if isinstance(value.get("body"), str | dict | list):
            return _body(value["body"], is_log=True)
    return value


def _object_or_text(text: str, *, is_log: bool) -> Any:
    try:
        value = parsed(text)
    except CalibrationError:
        if is_log:
            raise
        return text
    chunks = value if isinstance(value, list) else [value]
    return value if is_log or is_logged({"response": chunks}) else text


def _events(text: str) -> list[Any]:
    """Return the chunks of an event stream."""
    lines = (line.strip() for line in text.split("\n"))
    data = (line.removeprefix("data:").strip() for line in lines if line.startswith("data:"))
    return [parsed(one) for one in data if one and one != "[DONE]"]


def _answers(response: Any) -> tuple[list[Answer], bool]:
    """Return the answers of a response, and whether they are turns of a chat."""
    if isinstance(response, str):
        return [Answer({"role": "assistant", "content": response})], False
    if isinstance(response, list):
        response = joined(response)
    if not isinstance(response, dict):
        raise CalibrationError("its `response` must be an object, a list of chunks, or text")
    if response.get("choices") is None:
        if response.get("error"):
            raise CalibrationError("the server answered with an error")
        return [_native(response)], False
    choices = [one for one in _items(response["choices"]) if isinstance(one, dict)]
    if any("delta" in one for one in choices):
        return _answers([response])
    is_chat = any(isinstance(one.get("message"), dict) for one in choices)
    answers = [_choice(one, number) for number, one in enumerate(choices)]
    verbose = response.get("__verbose")
    if len(answers) == 1 and answers[0].ids is None and isinstance(verbose, dict):
        answers = [dataclasses.replace(answers[0], ids=verbose.get("tokens") or None)]
    return answers, is_chat


def _items(choices: Any) -> list[Any]:
    if not isinstance(choices, list):
        raise CalibrationError("the `choices` of its response must be a list")
    return choices


def _choice(choice: Mapping[str, Any], number: int) -> Answer:
    """Return one of the answers of a response that was not streamed."""
    message = choice.get("message")
    if not isinstance(message, dict):
        text = choice.get("text")
        if not isinstance(text, str):
            raise CalibrationError(f"choice {number} of its response has no message and no text")
        message = {"content": text}
    named = next((name for name in IDS_OF_A_CHOICE if choice.get(name) is not None), None)
    return Answer(
        {**message, "role": "assistant"},
        choice.get("finish_reason") in CUT_OFF,
        choice[named] if named else None,
    )


def _native(response: Mapping[str, Any]) -> Answer:
    """Return the answer of SGLang's `/generate` or llama-server's `/completion`."""
    sglang = "output_ids" in response or "meta_info" in response
    text = response.get("text") if sglang else response.get("content")
    ids = response.get("output_ids") if sglang else response.get("tokens")
    if not isinstance(text, str) and ids is None:
        raise CalibrationError("there is no answer in the response")
    meta = response.get("meta_info")
    reason = meta.get("finish_reason") if isinstance(meta, dict) else response.get("stop_type")
    reason = reason.get("type") if isinstance(reason, dict) else reason
    message = {"role": "assistant", "content": text if isinstance(text, str) else ""}
    # without `return_tokens` llama-server sends an empty list
    return Answer(message, reason in CUT_OFF, ids or None)
