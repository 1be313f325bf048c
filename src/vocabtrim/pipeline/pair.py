"""A target and a drafter, opened once for tracing and for timing.

The drafter is opened over every id that its head has a row for, beside the
target that it borrows from, and its costs are worked out from the same files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import DecodeError, TokenizerMismatch
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.families.base import family_of
from vocabtrim.tensors.causal import target_cost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tokens.tokenizer import fingerprint_of

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter
    from vocabtrim.decode.target import Target


@dataclass(frozen=True, eq=False)
class Pair:
    """Models in memory.

    Args:
        target: With the drafter's `feature_layers`.
        drafter: Over all that its head holds.
        tokenizer: Fingerprint of both.
        cost: What steps of both hold and read.
    """

    target: Target
    drafter: Drafter
    tokenizer: str
    cost: PairCost


def open_pair(
    target: Path, drafter: Path, dtype: str = "float32", *, model: Any | None = None
) -> Pair:
    """Open both models.

    Args:
        target: Directory of the target.
        drafter: Directory of the drafter.
        dtype: "float32", "bfloat16" or "float16".
        model: The target as a loaded model, where it is open already; `dtype` is
            its own then.

    Raises:
        DecodeError: A model cannot be used, or the target has no tokenizer.
        TokenizerMismatch: Drafter and target have different tokenizers.
        CheckpointError: The drafter is damaged or does not fit the target.
    """
    from vocabtrim.decode.model import load_model
    from vocabtrim.decode.packed import pack_linears
    from vocabtrim.decode.target import Target

    tokenizer, of_drafter = fingerprint_of(target), fingerprint_of(drafter)
    if tokenizer is None:
        raise DecodeError(f"{target} has no tokenizer, so what is measured could not name one")
    TokenizerMismatch.check(
        "the drafter was made with another tokenizer than the target's",
        expected=tokenizer,
        found=of_drafter,
    )
    model = pack_linears(load_model(target, dtype)) if model is None else model
    verifier, checkpoint = Checkpoint.open(target), Checkpoint.open(drafter)
    family = family_of(checkpoint, to_decode=True)
    head = family.head(checkpoint, verifier)
    opened = family.load_drafter(checkpoint, verifier, model, None)
    itemsize = model.dtype.itemsize
    cost = PairCost(
        target_cost(verifier, itemsize=itemsize),
        family.cost(checkpoint, verifier, itemsize=itemsize),
        head.held.size,
        head.origin.shared,
    )
    return Pair(Target(model, opened.feature_layers), opened, tokenizer, cost)
