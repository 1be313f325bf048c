"""Drafters on the target's features, whose embedding and head may be the target's.

EAGLE, EAGLE-3 and those built alike store a fusion layer and a layer or more behind
it; what they lack is the target's. So V is what their config repeats, the head is
their own or else the target's, and a draft step costs the same sum. `Fused` is that
part of a family; what a drafter is recognised by and what its config says once
trimmed, each family states for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost, untied_parameters
from vocabtrim.tensors.causal import row_bytes, stored_matrices
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import EMBEDDING, FUSION
from vocabtrim.tensors.head_source import (
    D2T,
    HEAD_BIAS,
    HEAD_WEIGHT,
    T2D,
    HeadSource,
    held_rows,
    own_head,
    stores_head,
    target_head,
)
from vocabtrim.tensors.tensor_info import TensorInfo

NOT_TRUNK = frozenset({EMBEDDING, HEAD_WEIGHT, HEAD_BIAS, D2T, T2D})
"""Tensors of such a drafter that are embedding, head and maps."""


class Fused:
    """What families have in common whose drafters fuse the target's features.

    Attributes:
        once: Prefixes of tensors that only the first step of a cycle reads.
    """

    once: ClassVar[tuple[str, ...]] = ()

    def vocab_size(self, drafter: Checkpoint) -> int:
        """Return V, the target's padded vocabulary, which the config repeats."""
        return drafter.integer("vocab_size")

    def needs_target(self, drafter: Checkpoint) -> bool:
        """Return whether it stores no head of its own."""
        return not stores_head(drafter)

    def head(self, drafter: Checkpoint, target: Checkpoint | None) -> HeadSource:
        """Find the head: its own, or else the target's.

        Raises:
            CheckpointError: It is the target's and no target was given, or head,
                maps and config contradict each other.
        """
        return borrowed_head(drafter, target)

    def cost(
        self, drafter: Checkpoint, target: Checkpoint | None, *, itemsize: float | None = None
    ) -> StepCost:
        """Return what a draft step holds and reads.

        Parameters are trunk + V·H + K·H whoever stores the matrices. Without a
        target, what the drafter borrows counts in the drafter's own precision.

        Raises:
            CheckpointError: Head, maps and config contradict each other, or do
                not fit the target.
        """
        head = None
        if target is None and self.needs_target(drafter):
            check_whole(drafter)
        else:
            head = self.head(drafter, target)
        trunk = [info for name, info in drafter.tensors.items() if name not in NOT_TRUNK]
        once = [info for info in trunk if self.once and info.name.startswith(self.once)]
        return fused_cost(drafter, target, head, trunk=trunk, once_a_cycle=once, itemsize=itemsize)


def fused_cost(
    drafter: Checkpoint,
    target: Checkpoint | None,
    head: HeadSource | None,
    *,
    trunk: Sequence[TensorInfo],
    once_a_cycle: Sequence[TensorInfo] = (),
    itemsize: float | None = None,
) -> StepCost:
    """Return the cost of a drafter whose embedding and head may be the target's.

    Parameters are trunk + V·H + K·H whoever stores the matrices.

    Args:
        drafter: Of one of the families that fuse the target's features.
        target: The target, where it is at hand.
        head: The head; None where it is the target's and no target is at hand:
            then V rows in the precision of the drafter's fusion layer.
        trunk: Its tensors but embedding, head and maps.
        once_a_cycle: Those of the trunk that only the first step reads.
        itemsize: Bytes a weight, where it is not the stored one.

    Raises:
        CheckpointError: It has no fusion layer to speak of, or the target is no LM.
    """
    V, H = drafter.integer("vocab_size"), drafter.integer("hidden_size")
    fusion = drafter.tensors[FUSION]
    if not fusion.n_params:
        raise CheckpointError(f"{FUSION} is empty", path=drafter.path)
    width = fusion.nbytes / fusion.n_params if itemsize is None else itemsize
    rows, bias, head_bytes, embedding_row = V, 0, V * round(H * width), round(H * width)
    if head is not None:
        rows = head.held.size
        bias = sum(info.n_params for info in head.infos) - head.weight.n_params
        head_bytes = sum(info.bytes_at(itemsize) for info in head.infos)
    if EMBEDDING in drafter.tensors:
        embedding_row = row_bytes(drafter.tensors[EMBEDDING], itemsize)
    elif target is not None:
        embedding_row = row_bytes(stored_matrices(target).embedding, itemsize)
    cycle_bytes = sum(info.bytes_at(itemsize) for info in once_a_cycle)
    trunk_bytes = sum(info.bytes_at(itemsize) for info in trunk)
    return StepCost(
        params=untied_parameters(sum(info.n_params for info in trunk) + bias, H, V, rows),
        head_params=rows * H + bias,
        step_bytes=trunk_bytes - cycle_bytes + head_bytes + embedding_row,
        head_bytes=head_bytes,
        cycle_bytes=cycle_bytes,
    )


def borrowed_head(drafter: Checkpoint, target: Checkpoint | None) -> HeadSource:
    """Return the head of a drafter that may use the target's: its own, or else that.

    Raises:
        CheckpointError: It is the target's and no target was given, or head,
            maps and config contradict each other.
    """
    V = drafter.integer("vocab_size")
    if stores_head(drafter):
        return own_head(drafter, V)
    check_whole(drafter)
    if target is None:
        raise CheckpointError(
            f"it has no {HEAD_WEIGHT}, so its head is the target's: give --target",
            path=drafter.path,
        )
    return target_head(target, vocab_size=V, hidden=drafter.integer("hidden_size"))


def check_whole(drafter: Checkpoint) -> None:
    """Refuse a drafter without a head that says it drafts over fewer than all ids.

    Raises:
        CheckpointError: It says so, or its maps are none of the whole vocabulary.
    """
    V = drafter.integer("vocab_size")
    stated = drafter.config.get("draft_vocab_size")
    if stated not in (None, V):
        raise CheckpointError(
            f"it drafts over {stated} of {V} ids but has no {HEAD_WEIGHT}: "
            "engines would read the wrong rows of the target's",
            path=drafter.path,
        )
    # SpecForge writes a map of zeros beside a full vocabulary.
    held_rows(drafter, V, V)
