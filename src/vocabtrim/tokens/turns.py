"""Where an assistant's turn lies in the text of its chat template.

A turn runs from the end of the generation prompt to the token that ends it,
both as the template writes them. It is looked for in the rendering that ends
with it: there it is as it was when the model wrote it, while many templates cut
the thinking out of earlier turns. It starts, by the first rule that holds:

1. where the template marks it with `{% generation %}` (and ends there too);
2. after the rendering of the messages before it plus a generation prompt, where
   the rendering begins with that;
3. after the rendering of the messages before it and the header that the
   template writes before an assistant's text, learnt from a probe;
4. at its own text, where that header stands before it and a turn end after it.

It stops after its turn end; what the template adds behind that (a newline after
`<|im_end|>`) the model never emits. Text only: tokens are the work of `chat.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vocabtrim.tokens.messages import prepared
from vocabtrim.tokens.template import RENDER_FAULTS, ChatTemplate, Message, Rendering

# one word each: a template may touch the white space of what it is given
QUESTION, ANSWER = "probequestion", "probeanswer"


@dataclass(frozen=True)
class Turn:
    """A text and the character spans in it that the model wrote.

    Args:
        text: The rendering up to and with the turn.
        spans: First character and the one after the last, ascending.
        closed: Whether a turn end closes the spans, so that their tokens do not
            depend on what follows.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    closed: bool = False

    @property
    def written(self) -> str:
        """What the model wrote, spans joined."""
        return "".join(self.text[start:stop] for start, stop in self.spans)


@dataclass(frozen=True)
class Probe:
    """What a template writes around a known answer.

    Args:
        header: What stands between the question's turn and the answer, "" if
            white space only; None where that cannot be told.
        tail: What follows the answer.
        prompts: Whether the template has a generation prompt.
    """

    header: str | None = None
    tail: str = ""
    prompts: bool = False


def probe(template: ChatTemplate) -> Probe:
    """Render a question and its answer and see what the template adds."""
    forms = {"takes_parts": template.takes_parts, "takes_text": template.takes_text}
    question, _ = prepared({"role": "user", "content": QUESTION}, **forms)
    answer, _ = prepared({"role": "assistant", "content": ANSWER}, **forms)
    try:
        before = template.render([question]).text
        prompt = template.render([question], add_generation_prompt=True).text
        text = template.render([question, answer]).text
    except RENDER_FAULTS:
        return Probe()
    lead, found, tail = text.rpartition(ANSWER)
    if not found:
        return Probe()
    header = lead.removeprefix(before) if lead.startswith(before) else None
    if header is not None and not header.strip():
        # white space alone is no header that a prompt would bring: the model writes it
        header = ""
    return Probe(header, tail, prompt != before)


class TurnFinder:
    """Finds assistants' turns in a template's renderings.

    Args:
        template: The template.
        found: What it writes around a known answer.
        ends: Texts of the tokens that end a turn.
    """

    def __init__(self, template: ChatTemplate, found: Probe, ends: Sequence[str]) -> None:
        self._template, self._probe, self._ends = template, found, tuple(ends)

    def find(
        self, context: Sequence[Message], message: Message, tools: Sequence[Any] | None
    ) -> Turn | None:
        """Return the turn of `message` after `context`, None where no rule holds.

        Raises:
            RENDER_FAULTS: The template does not take these messages.
        """
        rendering = self._template.render([*context, message], tools=tools)
        text = rendering.text
        if self._template.marks_generation:
            earlier = self._rendered_or_none(context, tools)
            marked = 0 if earlier is None else len(earlier.generated)
            return Turn(text, rendering.generated[marked:], closed=True)
        start = self._start(context, message, tools, text)
        if start is None:
            return None
        end, stop = self._turn_end(text, start)
        return Turn(text, ((start, stop),), closed=end < stop)

    def _start(
        self, context: Sequence[Message], message: Message, tools: Sequence[Any] | None, text: str
    ) -> int | None:
        """Return the character at which the turn starts, by rules 2 to 4."""
        if self._probe.prompts:
            prompt = self._rendered_or_none(context, tools, add_generation_prompt=True)
            if prompt is not None and text.startswith(prompt.text):
                return len(prompt.text)
        header = self._probe.header
        if header is None:
            return None
        before = self._rendered_or_none(context, tools)
        if before is not None and text.startswith(before.text + header):
            return len(before.text) + len(header)
        content = message["content"].strip() if isinstance(message["content"], str) else ""
        body = text[: self._turn_end(text, 0)[0]].rstrip()
        lead = body.removesuffix(content)
        if content and header.strip() and body != lead and lead.rstrip().endswith(header.rstrip()):
            return len(lead)
        return None

    def _turn_end(self, text: str, start: int) -> tuple[int, int]:
        """Return where the first of the turn ends that close `text` begins and ends.

        Without one, both are where the text ends, white space left aside.
        """
        position = begin = stop = max(len(text.rstrip()), start)
        while end := next((one for one in self._ends if text.endswith(one, start, position)), None):
            begin, stop = position - len(end), position
            position = max(len(text[:begin].rstrip()), start)
        return begin, stop

    def _rendered_or_none(
        self,
        context: Sequence[Message],
        tools: Sequence[Any] | None,
        *,
        add_generation_prompt: bool = False,
    ) -> Rendering | None:
        """Render the messages before a turn; a template need not take them alone."""
        try:
            return self._template.render(
                context, tools=tools, add_generation_prompt=add_generation_prompt
            )
        except RENDER_FAULTS:
            return None
