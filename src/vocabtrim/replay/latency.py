"""Timing the parts of a cycle on this machine, inside cycles.

A draft step that is repeated on its own finds its weights in the processor's
caches; in decoding a target pass has just swept them out. So what is timed here
is whole cycles, for every draft length and size asked for: the draft's first
step (which reads what was committed too), its further steps, the target's pass
and what follows it. What is accepted is made up, one draft a cycle, for texts
are not the point. A round is a cycle of everything, so that a machine that slows
down slows all of it; medians over rounds are kept, and how far those of odd and
even rounds lie apart is the noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.latency import Latency
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.drafters.base import Drafter, ReducedHead
from vocabtrim.decode.packed import is_packed
from vocabtrim.decode.target import Target

COMMITTED = 2
"""Tokens that a timed cycle emits: an accepted draft and the target's own."""


class Meter:
    """Times the parts of cycles, a round at a time.

    Args:
        target: With the drafter's `feature_layers`.
        drafter: Its head is replaced by its first K rows while K is timed.
        sizes: K to be timed, each at most the head's rows.
        gammas: Draft lengths to be timed, each at least 1.
        batch: Texts side by side.
        context: Tokens that each text begins with, at least 2.
        clock: Seconds since whenever.

    Raises:
        DecodeError: A number is out of range.
    """

    def __init__(
        self,
        target: Target,
        drafter: Drafter,
        *,
        sizes: Collection[int],
        gammas: Sequence[int],
        batch: int = 1,
        context: int = 128,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        rows = drafter.head.vocab.size
        if not sizes or not 1 <= min(sizes) <= max(sizes) <= rows:
            raise DecodeError(f"sizes to time must lie between 1 and the head's {rows} rows")
        if not gammas or min(gammas) < 1 or batch < 1 or context < 2:
            raise DecodeError(
                "timing needs draft lengths and a batch of 1 or more, and a context of 2 or more"
            )
        self.target, self.drafter, self.plain = target, drafter, Target(target.model)
        self.batch, self.context, self.clock = batch, context, clock
        self.gammas = sorted(set(gammas))
        self._full = drafter.head
        self._heads = {size: _first_rows(drafter.head, size) for size in sorted(set(sizes))}
        for head in self._heads.values():
            # what a head prepares when first used is no part of a cycle
            head.best(head.weight[:1])
        self._rounds: list[_Round] = []
        self._on_gpu = target.embedding.device.type == "cuda"

    @torch.inference_mode()
    def round(self) -> None:
        """Time a cycle of every size and draft length, and a plain pass for every length."""
        columns = self.context + (len(self._heads) + 1) * len(self.gammas) * COMMITTED
        known = self.target.embedding.shape[0]
        prompt = [index % known for index in range(self.context)]
        for reader in (self.plain, self.target, self.drafter):
            reader.begin(columns + max(self.gammas) + 1, self.batch)
        self.plain.read_rows([prompt] * self.batch, last_only=True)
        readings = self.target.read_rows([prompt] * self.batch, last_only=True)
        for row in range(self.batch):
            self.drafter.commit([*prompt, prompt[0]], readings.of(row).features, row)
        found = _Round()
        try:
            # the first draft reads the prompt and is no measure of a step
            self._cycle(min(self._heads), 1, _Round())
            for gamma in self.gammas:
                self._pass(self.plain, [[prompt[0]]] * self.batch, found)
                for size in self._heads:
                    self._cycle(size, gamma, found)
        finally:
            self.drafter.head = self._full
        self._rounds.append(found)

    def latency(self) -> Latency:
        """Return the medians of the rounds so far.

        Raises:
            DecodeError: There was no round.
        """
        if not self._rounds:
            raise DecodeError("there is no latency without a round")
        whole = self._medians(self._rounds, 0.0)
        if len(self._rounds) == 1:
            return whole
        halves = [self._medians(self._rounds[start::2], 0.0) for start in (0, 1)]
        cycles = [(size, gamma) for size in self._heads for gamma in [0, *self.gammas]]
        times = np.array([[half.cycle(*one) for one in cycles] for half in halves])
        # each half is off by about half of what they differ by
        apart = np.abs(times[0] - times[1]) / np.abs(times[0] + times[1])
        return self._medians(self._rounds, float(apart.max()))

    def _cycle(self, size: int, gamma: int, found: _Round) -> None:
        """Draft, verify and commit, and note how long each took."""
        self.drafter.head = self._heads[size]
        alive = [True] * self.batch
        drafts: list[torch.Tensor] = []
        for _ in range(gamma):
            began = self.clock()
            hidden = self.drafter.step(drafts[-1], alive) if drafts else self.drafter.start()
            drafts.append(self.drafter.head.best(hidden))
            self._settle()
            spent = found.steps if len(drafts) > 1 else found.firsts
            spent.setdefault(size, []).append(self.clock() - began)
        began = self.clock()
        self.drafter.rewind()
        ids = torch.stack(drafts, dim=1).tolist()
        rest = self.clock() - began
        features = self._pass(self.target, [[draft[0], *draft] for draft in ids], found)
        began = self.clock()
        self.target.crop([gamma + 1 - COMMITTED] * self.batch)
        for row, draft in enumerate(ids):
            of_row = features[row]
            known = None if of_row is None else of_row[:COMMITTED]
            self.drafter.commit([draft[0], draft[0]], known, row)
        self._settle()
        found.rests.append(rest + self.clock() - began)

    def _pass(
        self, target: Target, token_ids: Sequence[Sequence[int]], found: _Round
    ) -> list[torch.Tensor | None]:
        """Let the target read and choose; return the features of each text."""
        began = self.clock()
        readings = target.read_rows(token_ids)
        readings.logits.argmax(dim=-1).tolist()
        found.passes.setdefault(len(token_ids[0]), []).append(self.clock() - began)
        return [readings.of(row).features for row in range(self.batch)]

    def _settle(self) -> None:
        """Wait for what was asked of a GPU."""
        if self._on_gpu:
            torch.cuda.synchronize()

    def _medians(self, rounds: Sequence[_Round], noise: float) -> Latency:
        def over(name: str, key: int) -> list[float]:
            return [one for found in rounds for one in getattr(found, name).get(key, [])]

        firsts = {size: median(over("firsts", size)) for size in self._heads}
        steps = {size: median(over("steps", size) or [firsts[size]]) for size in self._heads}
        tokens = sorted({count for found in rounds for count in found.passes})
        longer = float(np.mean([firsts[size] - steps[size] for size in self._heads]))
        return Latency(
            batch=self.batch,
            draft=steps,
            verify={count: median(over("passes", count)) for count in tokens},
            commit=longer + median(one for found in rounds for one in found.rests),
            noise=noise,
        )


class _Round:
    """Seconds of one round: by size, by tokens of a pass, and of the rest of each cycle."""

    def __init__(self) -> None:
        self.firsts: dict[int, list[float]] = {}
        self.steps: dict[int, list[float]] = {}
        self.passes: dict[int, list[float]] = {}
        self.rests: list[float] = []


def _first_rows(head: ReducedHead, size: int) -> ReducedHead:
    """Return a head of the first rows; which ids they are does not matter for time."""
    if size == head.vocab.size:
        return head
    vocab = DraftVocab(head.vocab.ids[:size], head.vocab.vocab_size)
    bias = None if head.bias is None else head.bias[:size]
    return ReducedHead(head.weight[:size], vocab, bias)


def conditions(target: Target) -> dict[str, Any]:
    """Return how a model is run here: precision, layout of its weights, device, threads."""
    weight = target.embedding
    return {
        "dtype": str(weight.dtype).removeprefix("torch."),
        "packed": is_packed(target.model),
        "device": str(weight.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
