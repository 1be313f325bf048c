"""Conversations as records hold them, and as chat templates take them.

Records come in the OpenAI form, with liberties: content that is null or a list
of parts, arguments of a function as a JSON string, thinking under three names.
Templates raise on most of these, so messages are brought to one form first, the
one that transformers and vLLM give to templates (vLLM
`entrypoints/chat_utils.py`, transformers `_alias_reasoning_fields`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.template import Message

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class Conversation:
    """Messages in the OpenAI form.

    Args:
        messages: Objects with `role`, and `content` as text, parts or null.
        tools: JSON schemas of the functions that the model could call.
        counted_from: Position of the first message that counts; those before it
            are only what it goes on from. A server's log holds each turn again
            in every request that follows.

    Raises:
        CalibrationError: A message is none.
    """

    messages: Sequence[Message]
    tools: Sequence[Any] | None = None
    counted_from: int = 0

    def __post_init__(self) -> None:
        for number, message in enumerate(self.messages, 1):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise CalibrationError(f"message {number} is no object with a `role`")
            content = message.get("content")
            parts = content if isinstance(content, list) else []
            if not (content is None or isinstance(content, str | list)) or not all(
                isinstance(part, dict) for part in parts
            ):
                raise CalibrationError(
                    f"the content of message {number} must be text, a list of parts or null, "
                    f"found {type(content).__name__}"
                )


def texts_of(message: Message) -> list[str]:
    """Return the thinking and the text of a message, empty ones left out."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [_reasoning(message), *(part.get("text") for part in parts)]
    return [text for text in texts if isinstance(text, str) and text]


def prepared(
    message: Message, *, takes_parts: bool, takes_text: bool = True
) -> tuple[dict[str, Any], bool]:
    """Bring a message to the form that templates take.

    Args:
        message: One message of a `Conversation`.
        takes_parts: Leave content that is a list of parts as it is; otherwise
            their texts are joined without a separator.
        takes_text: Leave content that is text as it is; otherwise it becomes
            one part, where parts are taken.

    Returns:
        A new message, and whether parts that are no text were left out of it.
    """
    # null is as good as absent, but `'tool_calls' in message` sees a difference
    fields = {name: value for name, value in message.items() if value not in (None, [])}
    content = fields.get("content", "")
    lost = False
    if isinstance(content, list) and not takes_parts:
        texts = [part["text"] for part in content if isinstance(part.get("text"), str)]
        lost = len(texts) < len(content)
        content = "".join(texts)
    elif isinstance(content, str) and takes_parts and not takes_text:
        content = [{"type": "text", "text": content}]
    fields["content"] = content
    reasoning = _reasoning(message)
    if reasoning is not None:
        fields = {"thinking": reasoning, **fields, "reasoning_content": reasoning}
    if isinstance(fields.get("tool_calls"), list):
        fields["tool_calls"] = [_call(call) for call in fields["tool_calls"]]
    return fields, lost


def _reasoning(message: Message) -> str | None:
    named = (message.get(name) for name in REASONING_FIELDS)
    return next((text for text in named if isinstance(text, str)), None)


def _call(call: Any) -> Any:
    """Return a tool call with its arguments as an object where they parse as one."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}
