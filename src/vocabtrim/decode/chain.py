"""Speculative decoding with chain drafts, as one visible loop.

Draft up to gamma tokens, let the target read them in one pass, keep what it
agrees with, take the rest back (Leviathan et al., 2211.17192, algorithm 1; at
temperature 0 the output is the target's own greedy text). Without a drafter
the same loop decodes one token a pass. Conventions of counting are those of
`core/metrics.py`: the prefill is no cycle, a cycle with R tokens left drafts
min(gamma, R - 1), and an accepted EOS ends its cycle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.accept import verify_greedy
from vocabtrim.decode.drafters.base import Drafter
from vocabtrim.decode.target import Target


@dataclass(frozen=True)
class Generation:
    """What one prompt came to.

    Args:
        token_ids: New ids, a final EOS included.
        counts: Cycles after the prefill.
        finish_reason: "stop" for an EOS, "length" where room ran out.
        prefill_s: Seconds until the first token.
        decode_s: Seconds of all cycles.
    """

    token_ids: tuple[int, ...]
    counts: AcceptCounts
    finish_reason: str
    prefill_s: float
    decode_s: float


def speculate(
    target: Target,
    drafter: Drafter | None,
    prompt_ids: Sequence[int],
    *,
    gamma: int,
    max_new_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Generation:
    """Decode one prompt greedily, with a drafter or without.

    Args:
        target: Verifies; its `feature_layers` are the drafter's.
        drafter: Proposes; None decodes one token a pass.
        prompt_ids: [T] ids, at least one (two for EAGLE-3 are met by the first
            new token).
        gamma: Draft length; 0 decodes one token a pass.
        max_new_tokens: Tokens to emit at most; less where the context ends.
        clock: Seconds since whenever.

    Raises:
        DecodeError: The prompt is empty or fills the context, or an option is
            out of range.
    """
    room = new_token_room(target, len(prompt_ids), max_new_tokens)
    if gamma < 0:
        raise DecodeError(f"gamma must be 0 or more, found {gamma}")
    if gamma == 0:
        drafter = None
    _check_ids(target, drafter, prompt_ids)
    began = clock()
    columns = len(prompt_ids) + room
    target.begin(columns)
    reading = target.read(prompt_ids, last_only=True)
    tokens = [int(reading.logits.argmax())]
    if drafter is not None:
        drafter.begin(columns)
        drafter.commit([*prompt_ids, *tokens], reading.features)
    started = clock()
    cycles: list[tuple[int, int, int]] = []
    while len(tokens) < room and tokens[-1] not in target.eos_ids:
        length = min(gamma, room - len(tokens) - 1)
        draft = drafter.propose(length) if drafter is not None and length else []
        reading = target.read([tokens[-1], *draft])
        predicted = [int(token) for token in reading.logits.argmax(dim=1)]
        verdict = verify_greedy(draft, predicted, target.eos_ids)
        target.crop(len(draft) - verdict.accepted)
        tokens.extend(verdict.tokens)
        if drafter is not None:
            emitted = len(verdict.tokens)
            features = None if reading.features is None else reading.features[:emitted]
            drafter.commit(verdict.tokens, features)
        cycles.append((verdict.drafted, verdict.accepted, len(verdict.tokens)))
    reason = "stop" if tokens[-1] in target.eos_ids else "length"
    counts = AcceptCounts.of_cycles(gamma, cycles)
    return Generation(tuple(tokens), counts, reason, started - began, clock() - started)


def new_token_room(target: Target, prompt_length: int, max_new_tokens: int) -> int:
    """Return how many tokens may follow a prompt.

    Raises:
        DecodeError: The prompt is empty or fills the context, or not even one
            token is asked for.
    """
    if max_new_tokens < 1:
        raise DecodeError(f"max_new_tokens must be at least 1, found {max_new_tokens}")
    if prompt_length < 1:
        raise DecodeError("the prompt has no tokens")
    if target.context is None:
        return max_new_tokens
    if prompt_length >= target.context:
        raise DecodeError(
            f"the prompt has {prompt_length} tokens, but the target's context is "
            f"{target.context}; shorten it"
        )
    return min(max_new_tokens, target.context - prompt_length)


def _check_ids(target: Target, drafter: Drafter | None, prompt_ids: Sequence[int]) -> None:
    V = target.embedding.shape[0]
    if min(prompt_ids) < 0 or max(prompt_ids) >= V:
        raise DecodeError(
            f"the prompt has an id outside [0, {V}): it was encoded with another tokenizer"
        )
    if drafter is not None and int(drafter.head.vocab.ids[-1]) >= V:
        raise DecodeError(
            f"the drafter can propose id {drafter.head.vocab.ids[-1]}, but the target has {V} ids"
        )
