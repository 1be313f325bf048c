"""A text from its request to its end: what was asked for, what was emitted, what came of it.

Whether a prompt can be decoded at all is decided here, in one place and before
anything runs: it has tokens, the model reads all of its ids, and its context
leaves room for one more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.accept import Verdict
from vocabtrim.decode.target import Target


@dataclass(frozen=True)
class Request:
    """One text to be generated.

    Args:
        key: Its id: names its random draws, and comes back with the result.
        prompt_ids: At least one id.
        max_new_tokens: At least 1.
    """

    key: str
    prompt_ids: tuple[int, ...]
    max_new_tokens: int

    def room(self, target: Target) -> int:
        """Return how many tokens may be emitted.

        Raises:
            DecodeError: The prompt is empty, fills the context or has an id that
                the model does not read, or not even one token is asked for.
        """
        name = f"prompt {self.key}" if self.key else "the prompt"
        known = target.embedding.shape[0]
        if not self.prompt_ids:
            raise DecodeError(f"{name} has no tokens")
        if not 0 <= min(self.prompt_ids) <= max(self.prompt_ids) < known:
            raise DecodeError(
                f"{name} has an id outside [0, {known}), the ids that the model reads: "
                "it was encoded with another tokenizer"
            )
        return new_token_room(target, len(self.prompt_ids), self.max_new_tokens, name=name)


@dataclass
class Text:
    """A text while it is decoded.

    Args:
        request: What was asked for.
        room: Tokens that may be emitted.
        token_ids: Emitted so far, an EOS included.
        cycles: (drafted, accepted, emitted) of each cycle.
        stopped: Whether an EOS ended it.
    """

    request: Request
    room: int
    token_ids: list[int] = field(default_factory=list)
    cycles: list[tuple[int, int, int]] = field(default_factory=list)
    stopped: bool = False

    @property
    def left(self) -> int:
        """R, tokens that may still be emitted."""
        return self.room - len(self.token_ids)

    @property
    def ended(self) -> bool:
        """Whether nothing more is emitted."""
        return self.stopped or not self.left

    @property
    def finish_reason(self) -> str:
        """The reason why it ended: "stop" for an EOS, "length" where room ran out."""
        return "stop" if self.stopped else "length"

    def emit(self, token_ids: Sequence[int], eos_ids: Collection[int]) -> None:
        """Append tokens; only the last of them may be an EOS."""
        self.token_ids.extend(token_ids)
        self.stopped = token_ids[-1] in eos_ids

    def count(self, verdict: Verdict) -> None:
        """Count a cycle."""
        self.cycles.append((verdict.drafted, verdict.accepted, len(verdict.tokens)))


@dataclass(frozen=True)
class Generation:
    """What one prompt came to.

    Args:
        token_ids: New ids, a final EOS included.
        counts: Cycles after the prefill.
        finish_reason: "stop" for an EOS, "length" where room ran out.
        prefill_s: Seconds until the first token.
        decode_s: Seconds of all cycles; of texts decoded together, an even share.
    """

    token_ids: tuple[int, ...]
    counts: AcceptCounts
    finish_reason: str
    prefill_s: float
    decode_s: float


def new_token_room(
    target: Target, prompt_length: int, max_new_tokens: int, *, name: str = "the prompt"
) -> int:
    """Return how many tokens may follow a prompt.

    Raises:
        DecodeError: The prompt is empty or fills the context, or not even one
            token is asked for.
    """
    if max_new_tokens < 1:
        raise DecodeError(f"max_new_tokens must be at least 1, found {max_new_tokens}")
    if prompt_length < 1:
        raise DecodeError(f"{name} has no tokens")
    if target.context is None:
        return max_new_tokens
    if prompt_length >= target.context:
        raise DecodeError(
            f"{name} has {prompt_length} tokens, but the model's context is "
            f"{target.context}; shorten it or leave it out"
        )
    return min(max_new_tokens, target.context - prompt_length)
