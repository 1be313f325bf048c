"""Many prompts at once: rows leave the batch as they end, others take their place.

Every pass gives one token to each live row. All rows end at the same column of
one cache, each beginning where its own prompt began, so padding is a mask made
by `transformers` itself and sliding windows keep their distances. A prompt is
passed alone into its row; a finished row is refilled, or at the end closed up,
so a long straggler never drags dead rows along.

Prompts are taken by length, shortest first, in bands of similar size: a band's
cache holds `CACHE_TOKENS` at most, so one long prompt does not multiply by the
batch. Greedy output equals `generate(do_sample=False)` up to rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import ColumnCache
from vocabtrim.decode.model import context_length, eos_ids
from vocabtrim.decode.sampling import Sampling, choose, draw

CACHE_TOKENS = 65_536
"""Tokens of all rows together that a cache may hold (3 GB for the demo target)."""

REFILL_SHARE = 16
"""Rows are refilled when this share of them is free: prompts are passed together."""

SLACK = 128
"""Columns beyond the longest text: passes between two moves of the cache."""


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


@dataclass
class _Row:
    request: Request
    room: int
    token_ids: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens in the cache: the prompt and all generated ones but the last."""
        return len(self.request.prompt_ids) + len(self.token_ids) - 1


def generate_batched(
    model: Any, requests: Sequence[Request], *, sampling: Sampling, batch_size: int
) -> Iterator[Completion]:
    """Generate all requests, yielding each as soon as it ends.

    Args:
        model: A `transformers` causal LM, as `load_model` opens it.
        requests: In any order; keys are unique.
        sampling: Greedy, or how to draw.
        batch_size: Rows of a pass, at most.

    Raises:
        DecodeError: A prompt is empty, fills the model's context, or has an id
            that the model does not read.
    """
    context = context_length(model)
    known = int(model.get_input_embeddings().weight.shape[0])
    for request in requests:
        _check(request, context, known)
    for band in _bands(requests):
        longest = max(_columns(request, context) for request in band)
        rows = max(1, min(batch_size, len(band), CACHE_TOKENS // longest))
        yield from _Batch(model, rows, longest, sampling).run(band)


class _Batch:
    """One cache and the rows that live in it."""

    def __init__(self, model: Any, rows: int, columns: int, sampling: Sampling) -> None:
        self.model, self.capacity, self.sampling = model, rows, sampling
        self.context = context_length(model)
        self.eos = frozenset(eos_ids(model))
        self.cache = ColumnCache(rows, columns + SLACK)
        self.rows: list[_Row] = []
        # a pass costs about the same for one prompt as for a few
        self.refill = max(1, rows // REFILL_SHARE)

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate one band, shortest prompts first."""
        waiting = deque(requests)
        self.prompt_columns = max(len(request.prompt_ids) for request in requests)
        self.cache.start = self.cache.stop = self.prompt_columns
        while waiting or self.rows:
            free = self.capacity - len(self.rows)
            if waiting and (free >= self.refill or not self.rows):
                yield from self._admit([waiting.popleft() for _ in range(min(free, len(waiting)))])
            if self.rows:
                yield from self._step()

    def _admit(self, requests: Sequence[Request]) -> list[Completion]:
        """Pass prompts into free rows, padded on the left to the longest."""
        first, device = len(self.rows), self.model.device
        width = max(len(request.prompt_ids) for request in requests)
        padding = torch.tensor([[width - len(request.prompt_ids)] for request in requests])
        ids = [[0] * (width - len(one.prompt_ids)) + list(one.prompt_ids) for one in requests]
        places = (torch.arange(width) - padding).to(device)
        logits = self._pass(
            torch.tensor(ids, device=device),
            mask=places >= 0,
            positions=places.clamp(min=0),
            cache=self.cache.block(first, len(requests), start=self.cache.stop - width),
        )
        rows = [_Row(one, _columns(one, self.context) - len(one.prompt_ids)) for one in requests]
        self.rows.extend(rows)
        self._emit(rows, logits)
        return self._close()

    def _step(self) -> list[Completion]:
        """Give every row one token."""
        if self.cache.stop == self.cache.columns:
            self.cache.shift(min(self.cache.start, self.cache.stop - self.prompt_columns))
        device = self.model.device
        lengths = torch.tensor([[row.length] for row in self.rows], device=device)
        columns = torch.arange(self.cache.start, self.cache.stop + 1, device=device)
        logits = self._pass(
            torch.tensor([[row.token_ids[-1]] for row in self.rows], device=device),
            mask=columns >= self.cache.stop - lengths,
            positions=lengths,
            cache=self.cache,
        )
        self.cache.advance(1)
        self._emit(self.rows, logits)
        return self._close()

    @torch.no_grad()
    def _pass(
        self,
        ids: torch.Tensor,
        *,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: ColumnCache,
    ) -> torch.Tensor:
        """Return the logits [B, V] of the last column of `ids` [B, T]."""
        logits: torch.Tensor = self.model(
            ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]

    def _emit(self, rows: Sequence[_Row], logits: torch.Tensor) -> None:
        draws = [
            draw(self.sampling.seed, row.request.key, len(row.token_ids))
            for row in (() if self.sampling.greedy else rows)
        ]
        for row, token in zip(rows, choose(logits, self.sampling, draws), strict=True):
            row.token_ids.append(token)

    def _close(self) -> list[Completion]:
        """Take rows out that have ended; the last row fills each gap."""
        ended = []
        for index in reversed(range(len(self.rows))):
            row = self.rows[index]
            stopped = row.token_ids[-1] in self.eos
            if not stopped and len(row.token_ids) < row.room:
                continue
            last = self.rows.pop()
            if row is not last:
                self.cache.move_row(len(self.rows), index, last.length)
                self.rows[index] = last
            reason = "stop" if stopped else "length"
            ended.append(Completion(row.request.key, tuple(row.token_ids), reason))
        self.cache.narrow(len(self.rows), max((row.length for row in self.rows), default=0))
        return ended


def _check(request: Request, context: int | None, known: int) -> None:
    length = len(request.prompt_ids)
    if length == 0:
        raise DecodeError(f"prompt {request.key} has no tokens")
    if request.max_new_tokens < 1:
        raise DecodeError(f"max_new_tokens must be at least 1, found {request.max_new_tokens}")
    if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < known:
        raise DecodeError(
            f"prompt {request.key} has an id outside [0, {known}), the ids that the model reads: "
            "it was encoded with another tokenizer"
        )
    if context is not None and length >= context:
        raise DecodeError(
            f"prompt {request.key} has {length} tokens, but the model's context is {context}; "
            "shorten it or leave it out"
        )


def _columns(request: Request, context: int | None) -> int:
    wanted = len(request.prompt_ids) + request.max_new_tokens
    return wanted if context is None else min(wanted, context)


def _bands(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Yield requests shortest first, cut where the columns needed double."""
    ordered = sorted(
        requests, key=lambda request: (len(request.prompt_ids), request.max_new_tokens)
    )
    band: list[Request] = []
    limit = 0
    for request in ordered:
        needed = len(request.prompt_ids) + request.max_new_tokens
        if band and needed > limit:
            yield band
            band = []
        if not band:
            limit = max(512, 2 * needed)
        band.append(request)
    if band:
        yield band
