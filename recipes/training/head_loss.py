"""Cross-entropy to soft labels through a frozen head, without V-wide logits.

Most of a softmax over 49,152 ids goes to ids that neither target nor drafter
considers. Its partition function is therefore estimated: the ids of a
position's own label enter exactly, all others through one set of ids drawn for
the whole batch, each included by an independent coin of a known chance pi and,
if it is, counted 1/pi times (Horvitz-Thompson), that is with log pi subtracted
from its logit. The sum is unbiased, and ids with pi = 1 are exact.

The proposal: pi = min(1, s (count + 1)^0.75), counts from the training text, s
such that `expected` ids are drawn. Without a draw the softmax is the full one.

Head and labels are frozen, so the gradient with respect to the hidden state is
made in the forward pass, chunk by chunk, and no logits are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

ROWS = 512
"""Positions of a chunk; its logits stay in the processor's cache."""

WHOLE_ROWS = 32
"""Positions of a chunk at least, where every row of the head is read for each chunk."""

FLATTENING = 0.75


@dataclass(frozen=True, eq=False)
class Labels:
    """Soft labels: distributions over a few ids each.

    Args:
        ids: [S, m] int64 ascending, each once.
        chances: [S, m] float32, rows sum to 1.
    """

    ids: torch.Tensor
    chances: torch.Tensor

    def __getitem__(self, rows: torch.Tensor | slice) -> Labels:
        """Return some of them."""
        return Labels(self.ids[rows], self.chances[rows])


@dataclass(frozen=True, eq=False)
class Draw:
    """Ids drawn for one batch.

    Args:
        ids: [m] int64 ascending.
        bias: [m + 1] float32, -log pi of each; the last is a column for no id.
        rows: [m + 1, H], their rows of the head; the last is 0.
        column_of: [V] int64, the column of an id, m for one that was not drawn.
    """

    ids: torch.Tensor
    bias: torch.Tensor
    rows: torch.Tensor
    column_of: torch.Tensor


class Proposal:
    """How ids are drawn.

    Args:
        counts: [V] occurrences in the training text.
        expected: Ids drawn on average; V or more draws them all.
    """

    def __init__(self, counts: torch.Tensor, expected: int) -> None:
        weight = (counts.double() + 1) ** FLATTENING
        low, high = 0.0, 1.0 / float(weight.min())
        for _ in range(100):
            middle = (low + high) / 2
            enough = float((weight * middle).clamp(max=1).sum()) >= expected
            low, high = (low, middle) if enough else (middle, high)
        self.chance = (weight * high).clamp(max=1).float()
        self.chance[weight.argmax()] = 1.0  # never an empty draw

    def draw(self, head: torch.Tensor, seed: int) -> Draw:
        """Draw the ids of one batch; the same seed draws the same ids."""
        generator = torch.Generator().manual_seed(seed)
        coins = torch.rand(len(self.chance), generator=generator)
        ids = (coins < self.chance).nonzero()[:, 0]
        bias = functional.pad(-self.chance[ids].log(), (0, 1))
        ids = ids.to(head.device)
        column_of = torch.full((len(head),), len(ids), device=head.device)
        column_of[ids] = torch.arange(len(ids), device=head.device)
        return Draw(ids, bias.to(head.device), functional.pad(head[ids], (0, 0, 0, 1)), column_of)


def soft_cross_entropy(
    hidden: torch.Tensor, head: torch.Tensor, labels: Labels, draw: Draw | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of every position, and the id that the drafter would say.

    Everything here is float32, also where the drafter computes in less.

    Args:
        hidden: [S, H], after the drafter's norm; gradients flow here.
        head: [V, H] float32, frozen.
        labels: Of the S positions.
        draw: The other ids of the softmax; None for all.

    Returns:
        loss [S], and choice [S] int64: the argmax, over the ids that took part.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        loss, choice = _SoftCrossEntropy.apply(hidden.float(), head, labels, draw)  # type: ignore[no-untyped-call]
    return loss, choice


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: torch.Tensor, labels: Labels, draw: Draw | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = ctx.needs_input_grad[0]
        rows = ROWS if draw is not None else max(WHOLE_ROWS, ROWS * 4096 // len(head))
        losses, choices, slopes = [], [], []
        for begin in range(0, len(hidden), rows):
            part = slice(begin, begin + rows)
            loss, choice, slope = (
                _full(hidden[part], head, labels[part])
                if draw is None
                else _drawn(hidden[part], head, labels[part], draw)
            )
            losses.append(loss)
            choices.append(choice)
            if wanted:
                slopes.append(slope())
        choice = torch.cat(choices)
        ctx.mark_non_differentiable(choice)
        if wanted:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(losses), choice

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (slope,) = ctx.saved_tensors
        return slope * grads[0][:, None], None, None, None


_Parts = tuple[torch.Tensor, torch.Tensor, Callable[[], torch.Tensor]]
"""Loss, choice, and the gradient of the loss, which may spoil the logits."""


def _full(hidden: torch.Tensor, head: torch.Tensor, labels: Labels) -> _Parts:
    logits = hidden @ head.T
    choice = logits.argmax(1)
    total = logits.logsumexp(1)
    loss = total - (labels.chances * logits.gather(1, labels.ids)).sum(1)

    def slope() -> torch.Tensor:
        surplus = logits.sub_(total[:, None]).exp_()
        return surplus.scatter_add_(1, labels.ids, -labels.chances) @ head

    return loss, choice, slope


def _drawn(hidden: torch.Tensor, head: torch.Tensor, labels: Labels, draw: Draw) -> _Parts:
    ids = labels.ids
    own = rows_dot(hidden, head, ids)
    others = torch.addmm(draw.bias, hidden, draw.rows.T)
    # an id of the label is counted once, as its own; the last column takes the rest
    others.scatter_(1, draw.column_of[ids], float("-inf"))
    others = others[:, :-1]
    best, place = own.max(1)
    rival, column = (others - draw.bias[:-1]).max(1)
    choice = torch.where(best >= rival, ids.gather(1, place[:, None])[:, 0], draw.ids[column])
    total = torch.logaddexp(own.logsumexp(1), others.logsumexp(1))
    loss = total - (labels.chances * own).sum(1)

    def slope() -> torch.Tensor:
        surplus = (own - total[:, None]).exp_().sub_(labels.chances)
        made = functional.embedding_bag(ids, head, per_sample_weights=surplus, mode="sum")
        return made.addmm_((others - total[:, None]).exp_(), draw.rows[:-1])

    return loss, choice, slope


def rows_dot(hidden: torch.Tensor, head: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return hidden[s] @ head[ids[s, j]], [S, m].

    On a CPU as a sampled product of two dense matrices, for gathering the rows
    first takes twenty times as long.
    """
    if hidden.device.type != "cpu":
        return torch.einsum("sh,smh->sm", hidden, head[ids])
    starts = torch.arange(0, ids.numel() + 1, ids.shape[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        pattern = torch.sparse_csr_tensor(
            starts,
            ids.flatten(),
            torch.zeros(ids.numel()),
            size=(len(ids), len(head)),
            check_invariants=False,
        )
    products = torch.sparse.sampled_addmm(pattern, hidden, head.T, beta=0.0)
    values: torch.Tensor = products.values()
    return values.view_as(ids)
