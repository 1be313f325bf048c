"""Records: one JSON object a line.

What a record holds is decided record by record, by the first field of this list
that it has and that is not null: `completion_ids` or `completion` (what a model answered, as
`vocabtrim generate` and others write it), `messages` (a conversation), `text`,
`prompt`. Ids are used as they are where the record's `tokenizer` is the one of
the count, for they are what the model emitted; otherwise the text of the
completion is encoded and a warning says so.

A line that is no such record is an error that names file and line. Blank lines
are skipped. A further form is one function and one row of `_FORMS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import BOM, Document, Reading, as_ids, holds_records
from vocabtrim.tokens.counting import Content
from vocabtrim.tokens.messages import Conversation

OTHER_TOKENIZER = (
    "completion_ids belong to another tokenizer, or do not say to which: "
    "the text of the completion was encoded instead"
)

Found = tuple[Content, str | None]
"""Content of a record, and a warning."""


@dataclass(frozen=True)
class Jsonl:
    """Source of records."""

    summary = "JSON objects, one a line: completion_ids, completion, messages, text or prompt"
    example = b'{"text": "One document."}\n{"prompt": "Another one.", "domain": "questions"}\n'

    def matches(self, path: Path) -> bool:
        """Whether the file holds records."""
        return holds_records(path)

    def read(self, path: Path, reading: Reading) -> Iterator[Document]:
        """Yield a document for every record.

        Raises:
            CalibrationError: A line is no record, or not UTF-8; names the line.
        """
        stop = 0
        with path.open("rb") as stream:
            for line, raw in enumerate(stream, 1):
                stop += len(raw)
                stripped = (raw.removeprefix(BOM) if line == 1 else raw).strip()
                if not stripped:
                    continue
                try:
                    record = _record(stripped)
                    content, warning = _content(record, reading)
                except CalibrationError as fault:
                    raise CalibrationError(str(fault), path=path, line=line) from fault
                domain = record.get("domain")
                named = domain if isinstance(domain, str) else None
                yield Document(path, line, stop, content, named, warning)


def _record(raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw.decode("utf-8"))
        if b"\\ud" in raw.lower():
            # escapes can spell half a character, which no tokenizer takes
            json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as fault:
        raise CalibrationError(f"byte {raw[fault.start]:#04x} is not UTF-8") from fault
    except UnicodeEncodeError as fault:
        raise CalibrationError("an escape is half a character (a lone surrogate)") from fault
    except (ValueError, RecursionError) as fault:
        raise CalibrationError(f"not valid JSON ({fault}); one object a line is needed") from fault
    if not isinstance(record, dict):
        raise CalibrationError(f"a record must be a JSON object, found {type(record).__name__}")
    return record


def _content(record: dict[str, Any], reading: Reading) -> Found:
    for name, form in _FORMS.items():
        if record.get(name) is not None:
            return form(record, reading)
    if _FORMS.keys() & record.keys():
        return "", None
    keys = ", ".join(sorted(record)) or "nothing"
    raise CalibrationError(f"a record needs one of {', '.join(_FORMS)}; this one has {keys}")


def _completion(record: dict[str, Any], reading: Reading) -> Found:
    if reading.role != "assistant":
        return Conversation(_exchange(record), _tools(record)), None
    listed = record.get("completion_ids")
    if listed is None:
        return _text_of(record, "completion"), None
    if not isinstance(listed, list) or not all(type(one) is int for one in listed):
        raise CalibrationError("completion_ids must be a list of integers")
    if record.get("tokenizer") != reading.tokenizer:
        if record.get("completion") is None:
            raise CalibrationError(
                "completion_ids belong to another tokenizer, or do not say to which, "
                "and there is no completion to encode instead"
            )
        return _text_of(record, "completion"), OTHER_TOKENIZER
    outside = [one for one in listed if not 0 <= one < reading.vocab_size]
    if outside:
        raise CalibrationError(
            f"id {outside[0]} lies outside the {reading.vocab_size} ids of the tokenizer"
        )
    return as_ids(listed), None


def _exchange(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages that a completion answers, and the completion."""
    asked = record.get("messages")
    if asked is None:
        asked = [{"role": "user", "content": _text_of(record, "prompt")}]
    if not isinstance(asked, list):
        raise CalibrationError(f"`messages` must be a list, found {type(asked).__name__}")
    return [*asked, {"role": "assistant", "content": _text_of(record, "completion")}]


def _messages(record: dict[str, Any], reading: Reading) -> Found:
    messages = record["messages"]
    if not isinstance(messages, list):
        raise CalibrationError(f"`messages` must be a list, found {type(messages).__name__}")
    return Conversation(messages, _tools(record)), None


def _text(record: dict[str, Any], reading: Reading) -> Found:
    return _text_of(record, "text"), None


def _prompt(record: dict[str, Any], reading: Reading) -> Found:
    return _text_of(record, "prompt"), None


def _text_of(record: dict[str, Any], name: str) -> str:
    """Return a text; null and absent are the empty one."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise CalibrationError(f"`{name}` must be text, found {type(value).__name__}")
    return value or ""


def _tools(record: dict[str, Any]) -> list[Any] | None:
    """Return the functions that could be called; some data sets hold them as JSON text."""
    tools = record.get("tools")
    if isinstance(tools, str) and tools:
        try:
            tools = json.loads(tools)
        except ValueError as fault:
            raise CalibrationError(f"`tools` is no JSON ({fault})") from fault
    if tools and not isinstance(tools, list):
        raise CalibrationError(f"`tools` must be a list, found {type(tools).__name__}")
    return tools or None


_FORMS: dict[str, Callable[[dict[str, Any], Reading], Found]] = {
    "completion_ids": _completion,
    "completion": _completion,
    "messages": _messages,
    "text": _text,
    "prompt": _prompt,
}

PLUGIN = Jsonl()
