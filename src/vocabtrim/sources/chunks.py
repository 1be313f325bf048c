"""A streamed response put together: the one that would have come whole.

Servers stream OpenAI's chunks, a `delta` or a piece of `text` for each choice, with
vLLM's and SGLang's token ids beside them; llama-server streams pieces of its own
form, and SGLang's own endpoint sends all that came so far each time. Chunks of
several choices come mixed, and a tool call comes in parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vocabtrim.core.errors import CalibrationError

IDS_OF_A_CHOICE = ("token_ids", "response_token_ids")
TEXTS = ("content", "reasoning_content", "reasoning")


def joined(chunks: Sequence[Any]) -> Mapping[str, Any]:
    """Return the response that a stream comes to.

    Args:
        chunks: In the order in which they came.

    Raises:
        CalibrationError: One is no object, or tells of an error.
    """
    found = [one for one in chunks if isinstance(one, dict)]
    if len(found) < len(chunks):
        raise CalibrationError("a chunk of its response is no object")
    if any(chunk.get("error") for chunk in found):
        raise CalibrationError("the server answered with an error")
    if any("choices" in chunk for chunk in found):
        return {"choices": _choices(found)}
    return _native(found) if found else {"choices": []}


def _native(chunks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the response that SGLang or llama-server streamed in their own form."""
    if any("meta_info" in chunk for chunk in chunks):
        # each chunk holds all that came so far
        return chunks[-1]
    text = "".join(one["content"] for one in chunks if isinstance(one.get("content"), str))
    ids = [one for chunk in chunks for one in chunk.get("tokens") or ()]
    return {**chunks[-1], "content": text, "tokens": ids}


def _choices(chunks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    streams: dict[int, _Choice] = {}
    for chunk in chunks:
        listed = chunk.get("choices")
        for choice in listed if isinstance(listed, list) else ():
            if isinstance(choice, dict):
                streams.setdefault(_index(choice), _Choice()).add(choice)
    return [streams[index].whole() for index in sorted(streams)]


def _index(part: Mapping[str, Any]) -> int:
    index = part.get("index")
    return index if isinstance(index, int) else 0


class _Choice:
    """One choice of a stream, as far as it has come."""

    def __init__(self) -> None:
        self._is_chat = False
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, str]] = {}
        self._ids: list[Any] | None = None
        self._reason: Any = None

    def add(self, choice: Mapping[str, Any]) -> None:
        """Take its part of the next chunk."""
        delta = choice.get("delta")
        self._is_chat = self._is_chat or isinstance(delta, dict)
        part = delta if isinstance(delta, dict) else {"content": choice.get("text")}
        for name in TEXTS:
            text = part.get(name)
            if isinstance(text, str):
                self._texts.setdefault(name, []).append(text)
        calls = part.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            self._add_call(call)
        for name in IDS_OF_A_CHOICE:
            if isinstance(choice.get(name), list):
                self._ids = [*(self._ids or ()), *choice[name]]
        self._reason = choice.get("finish_reason") or self._reason

    def whole(self) -> dict[str, Any]:
        """Return the choice that all of it comes to."""
        message: dict[str, Any] = {name: "".join(parts) for name, parts in self._texts.items()}
        if self._calls:
            calls = [self._calls[index] for index in sorted(self._calls)]
            message["tool_calls"] = [{"type": "function", "function": call} for call in calls]
        said = {"message": message} if self._is_chat else {"text": message.get("content", "")}
        return {**said, "finish_reason": self._reason, IDS_OF_A_CHOICE[0]: self._ids}

    def _add_call(self, call: Any) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            return
        held = self._calls.setdefault(_index(call), {})
        for name in ("name", "arguments"):
            if isinstance(function.get(name), str):
                held[name] = held.get(name, "") + function[name]
