"""Acceptance over many nested vocabularies from one reading of a text.

An accepted draft always equals the target's own continuation. So on a text that
the target wrote, what a drafter gets accepted follows from what it ranks best at
each position and depth, given the text itself: no vocabulary needs a decoding
run of its own. Vocabularies that take ids in one fixed order are prefixes of
that order, and one reading serves all of them.

This is for choosing K on calibration text. It gives block efficiency exactly as
greedy chain decoding counts it (`core/metrics.py`), for texts of the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import linear

from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.drafters.base import Drafter, ReducedHead
from vocabtrim.decode.target import Target


@dataclass(frozen=True, eq=False)
class NestedRuns:
    """How many drafts in a row would be accepted, from every position of a text.

    Args:
        sizes: [S] sizes of the vocabularies.
        runs: [S, T - 1] int64 drafts accepted of a cycle that begins with the
            t-th new token committed, at most gamma.
        gamma: Draft length.
        budget: Tokens that were allowed; a cycle near its end drafts less.
    """

    sizes: tuple[int, ...]
    runs: NDArray[np.int64]
    gamma: int
    budget: int

    def counts(self, size: int) -> AcceptCounts:
        """Walk the text in cycles, as decoding with that vocabulary would."""
        runs = self.runs[self.sizes.index(size)]
        length = runs.size + 1
        cycles, emitted = [], 1
        while emitted < length:
            drafted = min(self.gamma, self.budget - emitted - 1)
            accepted = min(int(runs[emitted - 1]), drafted)
            new = min(accepted + 1, length - emitted)
            # an accepted last token is an EOS: nothing behind it was drafted
            ended = accepted == length - emitted
            cycles.append((accepted if ended else drafted, accepted, new))
            emitted += new
        return AcceptCounts.of_cycles(self.gamma, cycles)


class NestedHead:
    """A full head with its rows in the order in which vocabularies take them.

    Args:
        head: Over every id.
        order: [V] ids, a permutation.
        sizes: Each vocabulary is the first so many of `order`.
    """

    def __init__(self, head: ReducedHead, order: NDArray[np.int64], sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self._ids = torch.from_numpy(order.copy()).to(head.weight.device)
        self._weight = head.weight[self._ids]
        self._bias = None if head.bias is None else head.bias[self._ids]

    @torch.no_grad()
    def best(self, states: torch.Tensor) -> torch.Tensor:
        """Return what each vocabulary proposes: [N, H] to [S, N] target ids."""
        logits = linear(states, self._weight, self._bias)
        rows = [logits[:, :size].argmax(dim=-1) for size in self.sizes]
        return self._ids[torch.stack(rows)]


def nested_runs(
    target: Target,
    drafter: Drafter,
    head: NestedHead,
    prompt_ids: Sequence[int],
    new_ids: Sequence[int],
    *,
    gamma: int,
    budget: int,
) -> NestedRuns:
    """Read a text of the target once and return its runs under every vocabulary.

    Args:
        target: Reads the text for its features.
        drafter: Over every id.
        head: Its head, in the order of the vocabularies.
        prompt_ids: [P] ids of the prompt.
        new_ids: [T] ids that the target wrote, greedily; at least one.
        gamma: Draft length, at least 1.
        budget: Tokens that the text was allowed, at least T.
    """
    columns = len(prompt_ids) + len(new_ids) + gamma
    target.begin(columns)
    drafter.begin(columns)
    drafter.commit([*prompt_ids, new_ids[0]], target.read(prompt_ids, last_only=True).features)
    later = target.read(new_ids, last_only=True).features
    steps = len(new_ids) - 1
    runs = np.zeros((len(head.sizes), steps), dtype=np.int64)
    if steps == 0:
        return NestedRuns(head.sizes, runs, gamma, budget)
    wanted = [list(new_ids[step + 1 : step + 1 + gamma]) for step in range(steps)]
    states = []
    for step in range(steps):
        states.append(drafter.follow(wanted[step][:-1]))
        drafter.commit([new_ids[step + 1]], None if later is None else later[step : step + 1])
    best, begin = head.best(torch.cat(states)).tolist(), 0
    for step in range(steps):
        end = begin + len(wanted[step])
        for row, proposed in enumerate(best):
            runs[row, step] = _agreeing(proposed[begin:end], wanted[step])
        begin = end
    return NestedRuns(head.sizes, runs, gamma, budget)


def _agreeing(drafts: Sequence[int], wanted: Sequence[int]) -> int:
    count = 0
    for draft, token in zip(drafts, wanted, strict=True):
        if draft != token:
            break
        count += 1
    return count
