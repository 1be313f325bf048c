"""PROMPTS files: what generation, evaluation and traces start from.

JSONL with `prompt` or `messages` (and optionally `id` and `domain`), or plain
text, one prompt a line; content decides which, never the name of the file. A
prompt without an id is named by the hash of its content, so ids do not depend
on the order of files, and the same prompt given twice is one prompt.

`PromptEncoder` puts prompts through the target's chat template as a server
would: the generation prompt at the end, no special tokens added around it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend

from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.messages import Conversation, prepared
from vocabtrim.tokens.template import RENDER_FAULTS, ChatTemplate
from vocabtrim.tokens.tokenizer import Tokenizer

PREFIX = 1 << 16
"""Characters looked at to tell JSONL from text."""


@dataclass(frozen=True)
class Prompt:
    """What a model is asked.

    Args:
        id: Unique among the prompts of a run.
        messages: In the OpenAI form; the last is not the assistant's.
        domain: Name of its group in results, or None.
    """

    id: str
    messages: tuple[dict[str, Any], ...]
    domain: str | None = None

    @property
    def text(self) -> str | None:
        """The text of a lone user message, else None."""
        content = self.messages[0].get("content")
        alone = len(self.messages) == 1 and self.messages[0]["role"] == "user"
        return content if alone and isinstance(content, str) else None


def read_prompts(paths: Sequence[Path]) -> list[Prompt]:
    """Read prompts in order; the same id and content twice is one prompt.

    Raises:
        CalibrationError: A file is missing, no UTF-8 or has no prompt, a record
            is damaged or empty, or one id has two contents; names file and line.
    """
    found: dict[str, Prompt] = {}
    for path in paths:
        empty = True
        for line, prompt in _prompts_of(path):
            empty = False
            known = found.setdefault(prompt.id, prompt)
            if known != prompt:
                raise CalibrationError(
                    f"the id {prompt.id!r} is already that of another prompt; give each its own",
                    path=path,
                    line=line,
                )
        if empty:
            raise CalibrationError("there is no prompt in it", path=path)
    return list(found.values())


class PromptEncoder:
    """Prompts to the ids that the target reads.

    Args:
        directory: Of the target: its tokenizer and chat template.
        raw: Leave the chat template out and encode the text as the model's own
            tokenizer does, with the special tokens that it adds (a BOS).

    Attributes:
        tokenizer: The opened tokenizer.
        uses_template: Whether the chat template is used; a tokenizer without
            one reads raw text.

    Raises:
        TokenizerError: There is no usable tokenizer, or template.
    """

    def __init__(self, directory: Path, *, raw: bool = False) -> None:
        self.tokenizer = Tokenizer.open(directory)
        source = self.tokenizer.chat_template
        self._template = (
            None if raw or source is None else ChatTemplate(source, self.tokenizer.special_tokens)
        )
        self.uses_template = self._template is not None
        # Tokenizer strips the post-processor, which here is wanted: it adds the BOS
        self._backend = Backend.from_file(str(directory / "tokenizer.json"))
        self._backend.no_padding()
        self._backend.no_truncation()

    def encode(self, prompt: Prompt) -> NDArray[np.int64]:
        """Return the ids of a prompt, [T] int64.

        Raises:
            CalibrationError: The template refuses the messages, a conversation
                is to be read raw, or the prompt has no tokens.
        """
        if self._template is None:
            if prompt.text is None:
                raise CalibrationError(
                    f"prompt {prompt.id} is a conversation, which only a chat template can "
                    "write as text; give `prompt` instead of `messages`"
                )
            ids = np.array(self._backend.encode(prompt.text).ids, dtype=np.int64)
        else:
            ids = self.tokenizer.encode(self._rendered(self._template, prompt))
        if ids.size == 0:
            raise CalibrationError(f"prompt {prompt.id} has no tokens")
        return ids

    def _rendered(self, template: ChatTemplate, prompt: Prompt) -> str:
        messages = [
            prepared(message, takes_parts=template.takes_parts)[0] for message in prompt.messages
        ]
        try:
            return template.render(messages, add_generation_prompt=True).text
        except RENDER_FAULTS as fault:
            raise CalibrationError(
                f"the chat template refuses prompt {prompt.id} ({fault})"
            ) from fault


def _prompts_of(path: Path) -> Iterator[tuple[int, Prompt]]:
    if not path.is_file():
        raise CalibrationError("no such file of prompts", path=path)
    try:
        with path.open(encoding="utf-8-sig") as stream:
            is_jsonl = stream.read(PREFIX).lstrip().startswith("{")
            stream.seek(0)
            lines = ((number, line.strip()) for number, line in enumerate(stream, 1))
            filled = ((number, line) for number, line in lines if line)
            yield from _records(filled, path) if is_jsonl else _plain(filled)
    except UnicodeDecodeError as fault:
        raise CalibrationError("prompts must be UTF-8 text, and this file is not", path=path) from (
            fault
        )


def _plain(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Prompt]]:
    for number, line in lines:
        messages = ({"role": "user", "content": line},)
        yield number, Prompt(_content_id(messages), messages)


def _records(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[tuple[int, Prompt]]:
    for number, line in lines:
        try:
            record = json.loads(line)
        except ValueError as fault:
            raise CalibrationError(f"not valid JSON ({fault})", path=path, line=number) from fault
        try:
            yield number, _prompt(record)
        except CalibrationError as fault:
            raise CalibrationError(str(fault), path=path, line=number) from fault


def _prompt(record: Any) -> Prompt:
    if not isinstance(record, dict):
        raise CalibrationError(f"a record must be an object, found {type(record).__name__}")
    messages = _messages(record)
    domain, given = record.get("domain"), record.get("id")
    if domain is not None and not isinstance(domain, str):
        raise CalibrationError(f"`domain` must be text, found {type(domain).__name__}")
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int)):
        raise CalibrationError(f"`id` must be text or a number, found {type(given).__name__}")
    return Prompt(_content_id(messages) if given is None else str(given), messages, domain)


def _messages(record: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    if ("prompt" in record) == ("messages" in record):
        raise CalibrationError("a record needs either `prompt` or `messages`")
    if "prompt" in record:
        text = record["prompt"]
        if not isinstance(text, str):
            raise CalibrationError(f"`prompt` must be text, found {type(text).__name__}")
        if not text.strip():
            raise CalibrationError("the prompt is empty")
        return ({"role": "user", "content": text},)
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise CalibrationError("`messages` must be a list with at least one message")
    Conversation(messages)
    if messages[-1]["role"] == "assistant":
        raise CalibrationError("the last message is the assistant's: there is nothing to answer")
    if not any(message.get("content") for message in messages):
        raise CalibrationError("the prompt is empty")
    return tuple(messages)


def _content_id(messages: Sequence[dict[str, Any]]) -> str:
    document = json.dumps(list(messages), ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:16]
