"""Records: what one of them holds, by the fields that it has.

A record is an object, from whatever kind of file. Which form it has is decided
record by record, by what it has that is not null: a completion, a server's
response (`server_logs.py`), a conversation (`conversations.py`), `text`, `prompt`,
in this order. Where a list is expected, text is read as JSON, for a cell of a
table can hold nothing else. `Reading.field` overrides all of it.

Token ids are used as they are where the record names the tokenizer of the count
in its field `tokenizer`, for they are what a model emitted, and where `field`
asks for them by name. Ids of any other origin are never trusted: the text beside
them is encoded instead, with a warning, and a record without it is left out.

A further form is one function and one row of `FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Document, Reading, Skipped
from vocabtrim.sources.conversations import conversation_of
from vocabtrim.sources.server_logs import Answer, Exchange, exchange_of, is_logged
from vocabtrim.sources.values import kind, listed
from vocabtrim.tokens.counting import Content
from vocabtrim.tokens.messages import Conversation, texts_of

Record = Mapping[str, Any]
Found = tuple[Content, str | None]
"""What a record holds, and a warning."""

OTHER_TOKENIZER = (
    "token ids belong to another tokenizer, or do not say to which: "
    "the text beside them was encoded instead"
)


def documents_of(
    record: Any, reading: Reading, file: str, line: int
) -> Iterator[Document | Skipped]:
    """Yield the documents of a record, or why it has none.

    Args:
        record: As parsed; all text in it can be encoded as UTF-8.
        reading: What the count asks for.
        file: Name of the file that it stands in.
        line: Line or row at which it begins.
    """
    try:
        found = contents_of(record, reading)
    except CalibrationError as fault:
        yield Skipped(file, line, str(fault))
        return
    domain = record.get("domain") if isinstance(record, dict) else None
    named = domain if isinstance(domain, str) else None
    for content, warning in found:
        yield Document(file, line, content, named, warning)


def contents_of(record: Any, reading: Reading) -> list[Found]:
    """Return what a record holds: one content, or one for each of several answers.

    Raises:
        CalibrationError: It has no known form, or is not what its form should be.
    """
    if reading.field is not None and isinstance(record, dict):
        return [(_asked_for(record, reading.field, reading), None)]
    if isinstance(record, list) and is_logged({"response": record}):
        # a stream that was logged as it came, without what was asked
        return _logged({"response": record}, reading)
    if not isinstance(record, dict):
        raise CalibrationError(f"a record must be a JSON object, found {kind(record)}")
    for name, form in FORMS.items():
        if record.get(name) is not None if name != LOGGED else is_logged(record):
            return form(record, reading)
    if FORMS.keys() & record.keys():
        return [("", None)]
    raise CalibrationError(
        f"a record needs one of {', '.join(FORMS)}, and this one has {_names(record)}; "
        "--field names another"
    )


def _asked_for(record: Record, path: str, reading: Reading) -> Content:
    """Return what is at the field that was asked for, whatever else there is."""
    value: Any = record
    for part in [path] if path in record else path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise CalibrationError(f"there is no field {path!r} in it; it has {_names(record)}")
    if value is None or value == []:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(type(one) is int for one in value):
        return _ids(value, path, reading)
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return conversation_of(value, path, {"tools": record.get("tools")})
    raise CalibrationError(
        f"`{path}` must be text, a list of messages or a list of ids, found {kind(value)}"
    )


def _names(record: Record) -> str:
    names = sorted(map(str, record))
    more = [f"{len(names) - 12} more"] if len(names) > 12 else []
    return ", ".join(names[:12] + more) or "nothing"


def _ids(values: Any, name: str, reading: Reading) -> Content:
    """Return ids as they are, [T] int64."""
    ids = listed(values, name)
    if not all(type(one) is int for one in ids):
        raise CalibrationError(f"`{name}` must be a list of integers")
    if not all(0 <= one < reading.vocab_size for one in ids):
        raise CalibrationError(
            f"`{name}` has an id outside the {reading.vocab_size} ids of the tokenizer"
        )
    return np.array(ids, dtype=np.int64)


def _text(record: Record, name: str) -> str:
    """Return a text; null and absent are the empty one."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise CalibrationError(f"`{name}` must be text, found {kind(value)}")
    return value or ""


def _completion(record: Record, reading: Reading) -> list[Found]:
    """What a model answered, as `vocabtrim generate` and others write it."""
    if reading.role != "assistant" or isinstance(record.get("completion"), list):
        return [(_exchanged(record, reading), None)]
    text = _text(record, "completion")
    ids = record.get("completion_ids")
    if ids is None:
        return [(text, None)]
    given = None if record.get("completion") is None else text
    return [_ids_or_text(ids, "completion_ids", given, record.get("tokenizer"), reading)]


def _ids_or_text(
    ids: Any, name: str, beside: Content | None, tokenizer: Any, reading: Reading
) -> Found:
    """Return ids where they are the tokenizer's, else what is beside them, with a warning."""
    if tokenizer == reading.tokenizer:
        return _ids(ids, name, reading), None
    if beside is None:
        raise CalibrationError(
            f"`{name}` are of another tokenizer, or do not say of which, and there is no text "
            "beside them; --field takes ids as they are"
        )
    return beside, OTHER_TOKENIZER


def _exchanged(record: Record, reading: Reading) -> Conversation:
    """Return the messages that a completion answers, and the completion, as it counts."""
    answer = record.get("completion")
    if not isinstance(answer, list):
        answer = [{"role": "assistant", "content": _text(record, "completion")}]
    asked = record.get("messages")
    if asked is None and isinstance(record.get("prompt"), list):
        asked = record["prompt"]
    if asked is None:
        asked = [{"role": "user", "content": _text(record, "prompt")}]
    asked = listed(asked, "messages")
    counted_from = len(asked) if reading.role == "assistant" else 0
    return conversation_of([*asked, *answer], "messages", record, counted_from)


def _logged(record: Record, reading: Reading) -> list[Found]:
    """What passed between a client and a server."""
    exchange = exchange_of(record)
    if reading.role in ("assistant", "all"):
        return [_answer(exchange, answer, reading) for answer in exchange.answers]
    # n answers were asked for once
    return [_answer(exchange, exchange.answers[0], reading)]


def _answer(exchange: Exchange, answer: Answer, reading: Reading) -> Found:
    asked = listed(exchange.asked, "messages")
    counted_from = {"assistant": len(asked), "all": 0}.get(reading.role, exchange.new_from)
    content: Content = conversation_of(
        [*asked, answer.message], "messages", {"tools": exchange.tools}, counted_from
    )
    if reading.role != "assistant":
        return content, None
    if answer.cut_off or not exchange.is_chat:
        # the model did not end this turn, or there are no turns
        content = "".join(texts_of(answer.message))
    if answer.ids is None:
        return content, None
    beside = content if texts_of(answer.message) or answer.message.get("tool_calls") else None
    return _ids_or_text(answer.ids, "token ids", beside, exchange.tokenizer, reading)


def _messages(record: Record, reading: Reading) -> list[Found]:
    name = next(one for one in CONVERSATIONS if record.get(one) is not None)
    return [(conversation_of(record[name], name, record), None)]


def _plain(record: Record, reading: Reading) -> list[Found]:
    return [(_text(record, "text"), None)]


def _prompt(record: Record, reading: Reading) -> list[Found]:
    if isinstance(record["prompt"], list):
        return [(conversation_of(record["prompt"], "prompt", record), None)]
    return [(_text(record, "prompt"), None)]


LOGGED = "response"
CONVERSATIONS: Sequence[str] = ("messages", "conversations", "conversation")

FORMS: dict[str, Callable[[Record, Reading], list[Found]]] = {
    "completion_ids": _completion,
    "completion": _completion,
    LOGGED: _logged,
    **dict.fromkeys(CONVERSATIONS, _messages),
    "text": _plain,
    "prompt": _prompt,
}
