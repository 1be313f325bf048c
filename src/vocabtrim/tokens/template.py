"""A tokenizer's own chat template: messages to the text that the model sees.

Templates are programs from strangers, written against the environment in which
transformers runs them (`utils/chat_template_utils.py`, 5.x), so this module
builds the same one: sandboxed and immutable, blocks trimmed, loop controls,
`raise_exception`, `strftime_now`, a `tojson` that leaves HTML alone, and the
`{% generation %}` tag around what the model writes. Two differences: the clock
stands still, for counts must not depend on the day, and the tag leaves marks
in the text instead of counting what was written before it, so that it also
works inside macros.

Which part of a rendering is an assistant's is decided in `chat.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vocabtrim.core.errors import TokenizerError

# Noncharacters: Unicode sets them aside for a program's own use.
OPENING, CLOSING = "\ufdd0", "\ufdd1"

# the date that Llama 3's templates fall back to where there is no clock
STILL_CLOCK = datetime(2024, 7, 26)

RENDER_FAULTS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a template can raise on messages that it was not written for."""

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Rendering:
    """A rendered conversation.

    Args:
        text: What the model sees.
        generated: Character spans that the template marks as written by the
            model, in order; empty where it marks none.
    """

    text: str
    generated: tuple[tuple[int, int], ...] = ()


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja source.
        special_tokens: Name to text, as in `eos_token`: variables of the template.
        now: The time that `strftime_now` tells.

    Attributes:
        marks_generation: Whether it says itself what the model writes.
        takes_text: Whether it takes message content that is text.
        takes_parts: Whether it takes message content that is a list of parts.

    Raises:
        TokenizerError: The source is no valid template.
    """

    def __init__(
        self, source: str, special_tokens: Mapping[str, str], *, now: datetime = STILL_CLOCK
    ) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, "jinja2.ext.loopcontrols"],
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = now.strftime
        try:
            parsed = environment.parse(source)
            self._template = environment.from_string(source)
        except TemplateSyntaxError as fault:
            raise TokenizerError(
                f"the tokenizer's chat template is not valid, line {fault.lineno}: {fault.message}"
            ) from fault
        self._special_tokens = dict(special_tokens)
        self.marks_generation = any(
            call.node.name == _GenerationTag.MARK
            for call in parsed.find_all(nodes.Call)
            if isinstance(call.node, nodes.ExtensionAttribute)
        )
        self.takes_text = self._takes("probe")
        self.takes_parts = self._takes([{"type": "text", "text": "probe"}])

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = False,
    ) -> Rendering:
        """Render a conversation.

        Args:
            messages: What was said so far.
            tools: JSON schemas of the functions that the model could call.
            add_generation_prompt: End with the header of an assistant turn.

        Raises:
            RENDER_FAULTS: The template does not take these messages.
        """
        marked = self._template.render(
            **self._special_tokens,
            messages=list(messages),
            tools=None if tools is None else list(tools),
            documents=None,
            add_generation_prompt=add_generation_prompt,
        )
        return _unmarked(marked) if self.marks_generation else Rendering(marked)

    def _takes(self, content: str | list[dict[str, str]]) -> bool:
        try:
            text = self.render([{"role": "user", "content": content}]).text
        except RENDER_FAULTS:
            return False
        # a template that pastes content as it is prints the list's Python source
        return "probe" in text and "'type'" not in text and '"type"' not in text


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`: marks around what the model writes."""

    MARK = "mark"
    tags = {"generation"}  # noqa: RUF012 (the base class declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method(self.MARK), [], [], body).set_lineno(line)

    def mark(self, caller: Callable[[], str]) -> str:
        return OPENING + caller() + CLOSING


def _unmarked(marked: str) -> Rendering:
    """Take the marks out of a rendering and return what lay between them."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    for index, stretch in enumerate(marked.replace(CLOSING, OPENING).split(OPENING)):
        if index % 2:
            spans.append((length, length + len(stretch)))
        parts.append(stretch)
        length += len(stretch)
    return Rendering("".join(parts), tuple(spans))


def _tojson(
    value: Any,
    *,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> str:
    raise TemplateError(message)
