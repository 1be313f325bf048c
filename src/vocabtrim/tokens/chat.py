"""Which tokens of a conversation count.

A drafter proposes what the target emits, so by default only the assistant's
turns do, with the token that ends each and without the template's own words
around them (`turns.py` finds them in the text). A token counts when the
characters that it covers overlap a turn. Every turn is encoded in the rendering
that ends with it; turns whose renderings continue one another are encoded
together, for a turn end is an added token and the text is split at those.

Where a template refuses a conversation, or there is none, the text of the
messages is encoded on its own and a warning says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.messages import Conversation, prepared, texts_of
from vocabtrim.tokens.template import RENDER_FAULTS, ChatTemplate
from vocabtrim.tokens.tokenizer import Tokenizer
from vocabtrim.tokens.turns import Probe, Turn, TurnFinder, probe

ROLES = ("assistant", "user", "system", "all")

NO_TEMPLATE = (
    "the tokenizer has no chat template: message text was encoded on its own, "
    "so that no token that ends a turn was counted"
)
NO_ASSISTANT = "a conversation has no assistant turn, so nothing in it was counted"
NOT_FOUND = (
    "an assistant turn could not be told apart in the chat template's text; "
    "its message was encoded on its own, without the token that ends a turn"
)
LEFT_OUT = (
    "the chat template leaves a part of an assistant turn out (thinking, mostly); "
    "what it leaves out was not counted"
)
LOST_PARTS = "message parts that are no text (images, audio) were left out"


@dataclass(frozen=True, eq=False)
class ChatTokens:
    """A conversation as ids.

    Args:
        ids: [T] int64; where turns needed renderings of their own, these one
            after the other.
        counted: [T] bool, the tokens asked for.
        warnings: Substitutes that were made, one sentence each.
    """

    ids: NDArray[np.int64]
    counted: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()

    @property
    def counted_ids(self) -> NDArray[np.int64]:
        """The ids asked for, int64."""
        return self.ids[self.counted]


class ChatEncoder:
    """Conversations to the ids that count.

    Args:
        tokenizer: With its chat template, or without: then the text of the
            messages is encoded on its own.
        role: Whose tokens count. "assistant": what the model wrote. "user" and
            "system": the text of their messages, each encoded on its own, for
            no model writes the markers around it. "all": every token of the
            rendered conversation.

    Attributes:
        turn_ends: Ids that end a turn, ascending: the EOS ids and the token
            that the template writes after an answer.

    Raises:
        CalibrationError: There is no such role.
        TokenizerError: The chat template is not valid.
    """

    def __init__(self, tokenizer: Tokenizer, role: str = "assistant") -> None:
        if role not in ROLES:
            raise CalibrationError(f"the role must be one of {', '.join(ROLES)}, found {role!r}")
        self._tokenizer = tokenizer
        self._role = role
        self._template: ChatTemplate | None = None
        found = Probe()
        if tokenizer.chat_template is not None:
            self._template = ChatTemplate(tokenizer.chat_template, tokenizer.special_tokens)
            found = probe(self._template)
        self.turn_ends = tuple(sorted({*tokenizer.eos_ids, *self._template_end(found)}))
        if self._template is not None:
            texts = (tokenizer.added_text(token_id) for token_id in self.turn_ends)
            self._finder = TurnFinder(self._template, found, [text for text in texts if text])

    def encode(self, conversation: Conversation) -> ChatTokens:
        """Return the ids of a conversation and which of them count."""
        return self.encode_batch([conversation])[0]

    def encode_batch(self, conversations: Sequence[Conversation]) -> list[ChatTokens]:
        """Return what `encode` does for each conversation, on all cores."""
        rendered = [self._rendered(conversation) for conversation in conversations]
        texts = [turn.text for turns, _ in rendered for turn in turns]
        encodings = iter(self._tokenizer.encode_batch_with_offsets(texts))
        results = []
        for turns, warnings in rendered:
            ids = [np.empty(0, dtype=np.int64)]
            counted = [np.empty(0, dtype=np.bool_)]
            for turn in turns:
                turn_ids, offsets = next(encodings)
                ids.append(turn_ids)
                counted.append(_overlaps(offsets, turn.spans))
            results.append(ChatTokens(np.concatenate(ids), np.concatenate(counted), warnings))
        return results

    def _rendered(self, conversation: Conversation) -> tuple[list[Turn], tuple[str, ...]]:
        roles = ("system", "developer") if self._role == "system" else (self._role,)
        counted_from = 0 if self._role == "all" else conversation.counted_from
        chosen = [
            message
            for message in conversation.messages[counted_from:]
            if self._role == "all" or message["role"] in roles
        ]
        plain = [_whole(text) for message in chosen for text in texts_of(message)]
        if self._role in ("user", "system"):
            return plain, ()
        if not chosen:
            return [], (NO_ASSISTANT,) if self._role == "assistant" else ()
        if self._template is None:
            return plain, (NO_TEMPLATE,)
        forms = {
            "takes_parts": self._template.takes_parts,
            "takes_text": self._template.takes_text,
        }
        pairs = [prepared(message, **forms) for message in conversation.messages]
        messages = [message for message, _ in pairs]
        warnings = [LOST_PARTS] if any(lost for _, lost in pairs) else []
        if self._role == "assistant":
            turns, faults = self._turns(messages, conversation.tools, counted_from)
            return turns, (*warnings, *faults)
        try:
            text = self._template.render(messages, tools=conversation.tools).text
        except RENDER_FAULTS as fault:
            return plain, (*warnings, _refused(fault))
        return [_whole(text)], tuple(warnings)

    def _turns(
        self, messages: list[dict[str, Any]], tools: Sequence[Any] | None, counted_from: int
    ) -> tuple[list[Turn], list[str]]:
        """Return the assistant's turns that count, those that continue one another merged."""
        turns: list[Turn] = []
        warnings: list[str] = []
        for position, message in enumerate(messages):
            if message["role"] != "assistant" or position < counted_from:
                continue
            try:
                turn = self._finder.find(messages[:position], message, tools)
                fault = NOT_FOUND
            except RENDER_FAULTS as refusal:
                turn, fault = None, _refused(refusal)
            if turn is None:
                warnings.append(fault)
                turns += [_whole(text) for text in texts_of(message)]
                continue
            if not _holds(turn.written, texts_of(message)):
                warnings.append(LEFT_OUT)
            if turns and turns[-1].closed and turn.text.startswith(turns[-1].text):
                turn = Turn(turn.text, turns.pop().spans + turn.spans, turn.closed)
            turns.append(turn)
        return turns, warnings

    def _template_end(self, found: Probe) -> list[int]:
        """Return the added token that the template writes first after an answer."""
        ids, offsets = self._tokenizer.encode_with_offsets(found.tail)
        for token_id, (first, last) in zip(ids.tolist(), offsets.tolist(), strict=True):
            # Gemma's added tokens include runs of newlines
            if self._tokenizer.added_text(token_id) and not found.tail[first:last].isspace():
                return [token_id]
        return []


def _whole(text: str) -> Turn:
    return Turn(text, ((0, len(text)),))


def _overlaps(offsets: NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return which tokens overlap a span: [T] bool from offsets [T, 2].

    A token that covers no character stands in the span of its place.
    """
    first, last = offsets[:, 0], np.maximum(offsets[:, 1], offsets[:, 0] + 1)
    inside = np.zeros(len(offsets), dtype=np.bool_)
    for start, stop in spans:
        inside |= (first < stop) & (last > start)
    return inside


def _holds(written: str, texts: Sequence[str]) -> bool:
    """Whether all of `texts` were written, white space left aside."""
    if all(text.strip() in written for text in texts):
        return True
    squeezed = "".join(written.split())
    return all("".join(text.split()) in squeezed for text in texts)


def _refused(fault: Exception) -> str:
    reason = " ".join(f"{type(fault).__name__}: {fault}".split())[:120]
    return (
        f"the chat template refused a conversation ({reason}); "
        "the text of its messages was encoded on its own"
    )
