"""The head of a drafter: where its rows are, and which ids they stand for.

A drafter's rows are its own, its tied embedding's, or the target's; `HeadSource`
says which, with the ids that they stand for. The maps `d2t` and `t2d` are common
to all families that engines read with a reduced head, so reading them, with
every way in which they can be wrong, is here once. A map that does not fit its
head loads without a word in most engines, and only the acceptance rate shows it.

Ids ascend once trimmed. A head may come in another order (ModelOpt writes the ids
by frequency): then `order` says which row an id has, and rows change places
together with their ids. Where such a map stands beside a `t2d`, which lists the
same ids in ascending order, nobody can tell which of the two the rows follow.

Which of these cases a drafter is, is its family's to say (`families/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, VocabError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.causal import CausalLayout, refuse_packed, stored_matrices
from vocabtrim.tensors.checkpoint import Checkpoint, TensorInfo
from vocabtrim.tensors.head import HeadTensor

HEAD_WEIGHT = "lm_head.weight"
HEAD_BIAS = "lm_head.bias"
D2T = "d2t"
T2D = "t2d"

_LOGIT_KEYS = (
    "final_logit_softcapping",  # Gemma
    "logit_scale",  # Cohere
    "logits_scaling",  # Granite
    "lm_head_multiplier",  # Falcon-H1
    "output_multiplier_scale",  # Grok
)


class HeadOrigin(StrEnum):
    """Where the rows of a drafter's head come from."""

    OWN = "its own lm_head"
    OWN_EMBEDDING = "its own tied embedding"
    TARGET = "the target's lm_head"
    TARGET_EMBEDDING = "the target's tied embedding"
    HOST = "the lm_head of the target it is part of"
    HOST_EMBEDDING = "the tied embedding of the target it is part of"

    @property
    def shared(self) -> bool:
        """Whether trimming makes a copy, because something else uses the rows."""
        return self is not HeadOrigin.OWN

    @property
    def tied(self) -> bool:
        """Whether the drafter's own input embedding is its head."""
        return self is HeadOrigin.OWN_EMBEDDING

    @property
    def of_target(self) -> bool:
        """Whether the rows are in another checkpoint, the target's."""
        return self in (HeadOrigin.TARGET, HeadOrigin.TARGET_EMBEDDING)

    @property
    def targets_own(self) -> bool:
        """Whether the target itself uses the rows, in whichever checkpoint they are."""
        return self not in (HeadOrigin.OWN, HeadOrigin.OWN_EMBEDDING)


@dataclass(frozen=True, eq=False)
class HeadSource:
    """The head of a drafter as it is before trimming.

    Args:
        checkpoint: Holds the rows: the drafter's or the target's.
        tensors: Name that the trimmed drafter gives a tensor → where its rows
            are now.
        origin: Which matrix that is.
        held: The ids that the rows stand for.
        order: [K] int64, the row of each held id; None where row = draft id.
    """

    checkpoint: Checkpoint
    tensors: Mapping[str, HeadTensor]
    origin: HeadOrigin
    held: DraftVocab
    order: NDArray[np.int64] | None = None

    @property
    def weight(self) -> TensorInfo:
        """The matrix [K, H]."""
        return next(
            self.checkpoint.tensors[tensor.name]
            for tensor in self.tensors.values()
            if tensor.role == "weight"
        )

    @property
    def infos(self) -> list[TensorInfo]:
        """The matrix, and the bias where there is one."""
        return [self.checkpoint.tensors[head.name] for head in self.tensors.values()]

    def rows_of(self, vocab: DraftVocab) -> NDArray[np.int64]:
        """Return the rows [K] int64 that carry `vocab`, in the order of its ids.

        Raises:
            VocabError: An id has no row, or V differs.
        """
        rows = vocab.rows_in(self.held)
        return rows if self.order is None else self.order[rows]

    def stays(self, vocab: DraftVocab) -> bool:
        """Return whether a head over `vocab` needs no copy: all of a shared one."""
        return vocab.is_full and self.held.is_full and self.origin.shared

    def logit_keys(self) -> dict[str, Any]:
        """Return what the config beside the head says of its logits: cap and scale."""
        config = self.checkpoint.text_config
        return {key: config[key] for key in _LOGIT_KEYS if config.get(key) is not None}


@dataclass(frozen=True, eq=False)
class HeldRows:
    """The ids of a head's rows.

    Args:
        vocab: The ids, ascending.
        order: [K] int64, the row of each; None where row = draft id.
    """

    vocab: DraftVocab
    order: NDArray[np.int64] | None = None


def held_rows(drafter: Checkpoint, rows: int, vocab_size: int) -> HeldRows:
    """Return the ids that a drafter's own head of `rows` rows stands for.

    Args:
        drafter: Holds `d2t` and `t2d` where the head is reduced.
        rows: Rows of the head.
        vocab_size: V.

    Raises:
        CheckpointError: Head, `draft_vocab_size`, `d2t` and `t2d` contradict
            each other, or the ids are none.
    """
    stated = drafter.config.get("draft_vocab_size")
    if stated is not None and stated != rows:
        raise CheckpointError(
            f"draft_vocab_size is {stated}, but its head has {rows} rows", path=drafter.path
        )
    if D2T not in drafter.tensors:
        if rows != vocab_size:
            raise CheckpointError(
                f"its head has {rows} of {vocab_size} rows and no {D2T} says for which ids",
                path=drafter.path,
            )
        return HeldRows(DraftVocab.full(vocab_size))
    offsets = _vector(drafter, D2T)
    if offsets.size != rows:
        raise CheckpointError(
            f"{D2T} has {offsets.size} entries, but its head has {rows} rows", path=drafter.path
        )
    return _mapped(drafter, offsets, vocab_size)


def _mapped(drafter: Checkpoint, offsets: NDArray[Any], vocab_size: int) -> HeldRows:
    """Read a `d2t`, and compare it with the `t2d` beside it."""
    masked = T2D in drafter.tensors
    try:
        ids = np.arange(offsets.size) + offsets
        order = np.argsort(ids, kind="stable")
        held = DraftVocab.from_ids(ids, vocab_size)
    except VocabError as fault:
        raise CheckpointError(
            f"its {D2T} is no draft vocabulary: {fault}", path=drafter.path
        ) from fault
    ascends = bool((np.diff(order) > 0).all())
    if masked and not np.array_equal(_vector(drafter, T2D), held.t2d):
        raise CheckpointError(f"{T2D} and {D2T} name different ids", path=drafter.path)
    if masked and not ascends:
        raise CheckpointError(
            f"its {D2T} does not ascend, and the {T2D} beside it does: the rows of the head "
            "follow one of them, and nothing says which",
            path=drafter.path,
        )
    return HeldRows(held, None if ascends else order)


def vocabulary_maps(vocab: DraftVocab) -> dict[str, NDArray[Any]]:
    """Return the tensors that say which ids a head holds; none where it holds all."""
    return {} if vocab.is_full else {D2T: vocab.d2t, T2D: vocab.t2d}


def own_head(
    drafter: Checkpoint,
    vocab_size: int,
    *,
    name: str = HEAD_WEIGHT,
    hidden: int | None = None,
) -> HeadSource:
    """Return a head that the drafter stores.

    Args:
        drafter: Holds it.
        vocab_size: V.
        name: What its matrix is called.
        hidden: H; without it, the config's `hidden_size`.

    Raises:
        CheckpointError: The tensors and the config contradict each other, or the
            head is packed.
    """
    refuse_packed(drafter, name)
    bias = name.removesuffix("weight") + "bias"
    tensors = {name: HeadTensor(name)}
    if bias in drafter.tensors:
        tensors[bias] = HeadTensor(bias, role="bias")
    shapes = {one: drafter.tensor(one).shape for one in tensors}
    rows = shapes[name][0] if shapes[name] else 0
    hidden = drafter.integer("hidden_size") if hidden is None else hidden
    expected = {name: (rows, hidden), bias: (rows,)}
    for one, shape in shapes.items():
        if shape != expected[one]:
            raise CheckpointError(
                f"{one} has shape {list(shape)}, but {list(expected[one])} is expected",
                path=drafter.path,
            )
    held = held_rows(drafter, rows, vocab_size)
    return HeadSource(drafter, tensors, HeadOrigin.OWN, held.vocab, held.order)


def stores_head(drafter: Checkpoint) -> bool:
    """Return whether a drafter stores a head of its own, packed or not."""
    prefix = HEAD_WEIGHT.removesuffix("weight")
    return any(name.startswith(prefix) for name in drafter.tensors)


def target_head(target: Checkpoint, *, vocab_size: int, hidden: int) -> HeadSource:
    """Return the target's head, as a drafter without one borrows it.

    Args:
        target: A causal LM.
        vocab_size: V of the drafter.
        hidden: H of the drafter.

    Raises:
        CheckpointError: It is no causal LM, its head is not [V, H], or it is packed.
    """
    layout = stored_matrices(target)
    refuse_packed(target, layout.head.name)
    if layout.head.shape != (vocab_size, hidden):
        raise CheckpointError(
            f"its head has shape {list(layout.head.shape)}, but the drafter needs "
            f"{[vocab_size, hidden]}: it was trained for another target",
            path=target.path,
        )
    origin = HeadOrigin.TARGET_EMBEDDING if layout.tied else HeadOrigin.TARGET
    return HeadSource(target, _head_tensors(layout), origin, DraftVocab.full(vocab_size))


def host_head(target: Checkpoint) -> HeadSource:
    """Return the head of a target for a drafter that is part of it.

    Raises:
        CheckpointError: It is no causal LM, or its head is packed.
    """
    layout = stored_matrices(target)
    refuse_packed(target, layout.head.name)
    origin = HeadOrigin.HOST_EMBEDDING if layout.tied else HeadOrigin.HOST
    full = DraftVocab.full(layout.head.shape[0])
    return HeadSource(target, _head_tensors(layout), origin, full)


def embedding_head(drafter: Checkpoint, layout: CausalLayout) -> HeadSource:
    """Return the head of a drafter that uses its input embedding as one.

    Raises:
        CheckpointError: It is packed.
    """
    refuse_packed(drafter, layout.head.name)
    full = DraftVocab.full(layout.head.shape[0])
    return HeadSource(drafter, _head_tensors(layout), HeadOrigin.OWN_EMBEDDING, full)


def _head_tensors(layout: CausalLayout) -> dict[str, HeadTensor]:
    tensors = {HEAD_WEIGHT: HeadTensor(layout.head.name)}
    if layout.bias is not None:
        tensors[HEAD_BIAS] = HeadTensor(layout.bias.name, role="bias")
    return tensors


def _vector(drafter: Checkpoint, name: str) -> NDArray[Any]:
    array = drafter.array(name)
    if array.ndim != 1:
        raise CheckpointError(
            f"{name} must be a vector, found shape {list(array.shape)}", path=drafter.path
        )
    return array
