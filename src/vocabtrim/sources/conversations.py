"""Messages as records hold them, brought to the OpenAI form.

Two forms are in use: objects with `role` and `content`, and ShareGPT's with `from`
and `value`, whose speakers have other names. A conversation may lie in a list, in
a list that is written as JSON, or in lists by column. What the content of a
message may be is `tokens/messages.py`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.values import listed
from vocabtrim.tokens.messages import Conversation

ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "function": "tool",
}
"""Who speaks, by other names than those of the OpenAI form."""


def conversation_of(
    value: Any, name: str, record: Mapping[str, Any], counted_from: int = 0
) -> Conversation:
    """Return messages, in the OpenAI or the ShareGPT form, as a conversation.

    Args:
        value: Of the field `name`.
        name: Of the field.
        record: Whose `tools` and `system` belong to it.
        counted_from: The first message that counts.

    Raises:
        CalibrationError: They are no messages.
    """
    messages = [_message(one, number) for number, one in enumerate(listed(value, name), 1)]
    system = record.get("system")
    if isinstance(system, str) and system and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": system})
        counted_from += counted_from > 0
    tools = record.get("tools")
    return Conversation(messages, listed(tools, "tools") if tools else None, counted_from)


def _message(one: Any, number: int) -> dict[str, Any]:
    """Return a message in the OpenAI form."""
    if not isinstance(one, dict):
        raise CalibrationError(f"message {number} is no object with a `role`")
    if isinstance(one.get("role"), str):
        role, message = one["role"], dict(one)
    elif isinstance(one.get("from"), str):
        role, message = one["from"], {"content": one.get("value")}
    else:
        raise CalibrationError(f"message {number} is no object with a `role`, or a `from`")
    return message | {"role": ROLES.get(role.lower(), role)}
