"""Many prompts at once: rows leave the batch as they end, others take their place.

Texts are decoded side by side by `decode/chain.py`, with a drafter or without.
A finished row is refilled, or at the end closed up, so a long straggler never
drags dead rows along. Prompts are taken by length, shortest first, in bands of
similar size: a band's cache holds `CACHE_TOKENS` at most, so one long prompt
does not multiply by the batch. Greedy output equals `generate(do_sample=False)`
up to rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vocabtrim.decode.chain import Chain
from vocabtrim.decode.drafters.base import Drafter
from vocabtrim.decode.sampling import Sampling
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request, Text

__all__ = ["Completion", "Request", "generate_batched"]

CACHE_TOKENS = 65_536
"""Tokens of all rows together that a cache may hold (3 GB for the demo target)."""

REFILL_SHARE = 16
"""Rows are refilled when this share of them is free: prompts are passed together."""


@dataclass(frozen=True)
class Completion:
    """What was generated.

    Args:
        key: Of the request.
        token_ids: Generated ids, a final EOS included.
        finish_reason: "stop" for an EOS, "length" where room ran out.
    """

    key: str
    token_ids: tuple[int, ...]
    finish_reason: str


def generate_batched(
    model: Any,
    requests: Sequence[Request],
    *,
    sampling: Sampling,
    batch_size: int,
    drafter: Drafter | None = None,
    gamma: int = 0,
) -> Iterator[Completion]:
    """Generate all requests, yielding each as soon as it ends.

    Args:
        model: A `transformers` causal LM, as `load_model` opens it.
        requests: In any order; keys are unique.
        sampling: Greedy, or how to draw.
        batch_size: Rows of a pass, at most.
        drafter: Proposes, where drafts are wanted.
        gamma: Draft length.

    Raises:
        DecodeError: A prompt is empty, fills the model's context, or has an id
            that the model does not read.
    """
    target = Target(model, () if drafter is None else drafter.feature_layers)
    texts = [Text(one, one.room(target)) for one in requests]
    for band in _bands(texts):
        longest = max(map(_columns, band))
        rows = max(1, min(batch_size, len(band), CACHE_TOKENS // longest))
        chain = Chain(target, drafter, gamma=gamma, rows=rows, columns=longest, sampling=sampling)
        for text in _run(chain, rows, band):
            yield Completion(text.request.key, tuple(text.token_ids), text.finish_reason)


def _run(chain: Chain, rows: int, texts: Sequence[Text]) -> Iterator[Text]:
    """Decode one band, shortest prompts first."""
    waiting = deque(texts)
    # a pass costs about the same for one prompt as for a few
    refill = max(1, rows // REFILL_SHARE)
    while waiting or chain.texts:
        free = rows - len(chain.texts)
        if waiting and (free >= refill or not chain.texts):
            chain.admit([waiting.popleft() for _ in range(min(free, len(waiting)))])
            yield from chain.close()
        if chain.texts:
            chain.cycle()
            yield from chain.close()


def _columns(text: Text) -> int:
    return len(text.request.prompt_ids) + text.room


def _bands(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Yield texts shortest prompt first, cut where the columns needed double."""
    band: list[Text] = []
    limit = 0
    for text in sorted(texts, key=lambda one: (len(one.request.prompt_ids), one.room)):
        needed = _columns(text)
        if band and needed > limit:
            yield band
            band = []
        if not band:
            limit = max(512, 2 * needed)
        band.append(text)
    if band:
        yield band
