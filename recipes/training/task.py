"""What the training loop asks of a kind of drafter.

A task knows its module, what a batch costs it, and how its checkpoint is
written; the loop knows about steps, schedules and files. A new kind of drafter
is one class with these members.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from recipes.training.head_loss import Draw
from recipes.training.teacher import Lesson, Teacher


@dataclass(frozen=True, eq=False)
class StepLoss:
    """One unrolled step over a batch.

    Args:
        total: Sum of the losses of all positions, a scalar with gradient.
        choices: [S] int64 ids that the drafter says.
        greedy: [S] int64 ids that the target says.
        places: [S] int64, which tokens are predicted: row of the batch times its
            width, plus column.
        weight: Of this step in the loss.
    """

    total: torch.Tensor
    choices: torch.Tensor
    greedy: torch.Tensor
    places: torch.Tensor
    weight: float = 1.0


class Task(Protocol):
    """A drafter that can be trained."""

    @property
    def module(self) -> nn.Module:
        """All of its parameters are trained."""
        ...

    @property
    def teacher(self) -> Teacher:
        """The target."""
        ...

    @property
    def steps(self) -> int:
        """Unrolled steps."""
        ...

    def losses(self, lesson: Lesson, draw: Draw | None) -> Iterable[StepLoss]:
        """Return the losses of a batch, one a step."""
        ...

    def save(self, directory: Path) -> None:
        """Write the drafter as a checkpoint of bfloat16 weights."""
        ...
