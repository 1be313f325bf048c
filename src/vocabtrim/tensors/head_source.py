"""The head of a drafter: where its rows are, and which ids they stand for.

A drafter's rows are its own, its tied embedding's, or the target's; `HeadSource`
says which, with the ids that they stand for. The maps `d2t` and `t2d` are common
to all families that engines read with a reduced head, so reading them, with
every way in which they can be wrong, is here once. A map that does not fit its
head loads without a word in most engines, and only the acceptance rate shows it.

Which of the three cases a drafter is, is its family's to say (`families/`).
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
from vocabtrim.tensors.causal import CausalLayout, causal_layout
from vocabtrim.tensors.checkpoint import Checkpoint, TensorInfo
from vocabtrim.tensors.head import HeadTensor

HEAD_WEIGHT = "lm_head.weight"
HEAD_BIAS = "lm_head.bias"
D2T = "d2t"
T2D = "t2d"

_LOGIT_KEYS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class HeadOrigin(StrEnum):
    """Where the rows of a drafter's head come from."""

    OWN = "its own lm_head"
    OWN_EMBEDDING = "its own tied embedding"
    TARGET = "the target's lm_head"
    TARGET_EMBEDDING = "the target's tied embedding"

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
        """Whether the rows are in the target's checkpoint."""
        return self in (HeadOrigin.TARGET, HeadOrigin.TARGET_EMBEDDING)


@dataclass(frozen=True, eq=False)
class HeadSource:
    """The head of a drafter as it is before trimming.

    Args:
        checkpoint: Holds the rows: the drafter's or the target's.
        tensors: Name that the trimmed drafter gives a tensor → where its rows
            are now.
        origin: Which matrix that is.
        held: The ids that the rows stand for, row = draft id.
    """

    checkpoint: Checkpoint
    tensors: Mapping[str, HeadTensor]
    origin: HeadOrigin
    held: DraftVocab

    @property
    def weight(self) -> TensorInfo:
        """The matrix [K, H]."""
        return self.checkpoint.tensors[self.tensors[HEAD_WEIGHT].name]

    @property
    def infos(self) -> list[TensorInfo]:
        """The matrix, and the bias where there is one."""
        return [self.checkpoint.tensors[head.name] for head in self.tensors.values()]

    def stays(self, vocab: DraftVocab) -> bool:
        """Return whether a head over `vocab` needs no copy: all of a shared one."""
        return vocab.is_full and self.held.is_full and self.origin.shared

    def logit_keys(self) -> dict[str, Any]:
        """Return what the config beside the head says of its logits: cap and scale."""
        config = self.checkpoint.text_config
        return {key: config[key] for key in _LOGIT_KEYS if config.get(key) is not None}


def held_vocabulary(drafter: Checkpoint, rows: int, vocab_size: int) -> DraftVocab:
    """Return the ids that a drafter's own head of `rows` rows stands for.

    Args:
        drafter: Holds `d2t` and `t2d` where the head is reduced.
        rows: Rows of the head.
        vocab_size: V.

    Raises:
        CheckpointError: Head, `draft_vocab_size`, `d2t` and `t2d` contradict
            each other, or the ids do not ascend.
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
        return DraftVocab.full(vocab_size)
    offsets = _vector(drafter, D2T)
    if offsets.size != rows:
        raise CheckpointError(
            f"{D2T} has {offsets.size} entries, but its head has {rows} rows", path=drafter.path
        )
    try:
        held = DraftVocab.from_d2t(offsets, vocab_size)
    except VocabError as fault:
        raise CheckpointError(
            f"its {D2T} is no draft vocabulary: {fault}", path=drafter.path
        ) from fault
    if T2D in drafter.tensors and not np.array_equal(_vector(drafter, T2D), held.t2d):
        raise CheckpointError(f"{T2D} and {D2T} name different ids", path=drafter.path)
    return held


def vocabulary_maps(vocab: DraftVocab) -> dict[str, NDArray[Any]]:
    """Return the tensors that say which ids a head holds; none where it holds all."""
    return {} if vocab.is_full else {D2T: vocab.d2t, T2D: vocab.t2d}


def own_head(drafter: Checkpoint, vocab_size: int) -> HeadSource:
    """Return a head that the drafter stores as `lm_head.weight`.

    Raises:
        CheckpointError: The tensors and the config contradict each other.
    """
    tensors = {HEAD_WEIGHT: HeadTensor(HEAD_WEIGHT)}
    if HEAD_BIAS in drafter.tensors:
        tensors[HEAD_BIAS] = HeadTensor(HEAD_BIAS, role="bias")
    shapes = {name: drafter.tensor(name).shape for name in tensors}
    rows = shapes[HEAD_WEIGHT][0] if shapes[HEAD_WEIGHT] else 0
    hidden = drafter.integer("hidden_size")
    expected = {HEAD_WEIGHT: (rows, hidden), HEAD_BIAS: (rows,)}
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise CheckpointError(
                f"{name} has shape {list(shape)}, but {list(expected[name])} is expected",
                path=drafter.path,
            )
    return HeadSource(drafter, tensors, HeadOrigin.OWN, held_vocabulary(drafter, rows, vocab_size))


def target_head(target: Checkpoint, *, vocab_size: int, hidden: int) -> HeadSource:
    """Return the target's head, as a drafter without one borrows it.

    Args:
        target: A causal LM.
        vocab_size: V of the drafter.
        hidden: H of the drafter.

    Raises:
        CheckpointError: It is no causal LM, or its head is not [V, H].
    """
    layout = causal_layout(target)
    if layout.head.shape != (vocab_size, hidden):
        raise CheckpointError(
            f"its head has shape {list(layout.head.shape)}, but the drafter needs "
            f"{[vocab_size, hidden]}: it was trained for another target",
            path=target.path,
        )
    origin = HeadOrigin.TARGET_EMBEDDING if layout.tied else HeadOrigin.TARGET
    return HeadSource(target, _head_tensors(layout), origin, DraftVocab.full(vocab_size))


def embedding_head(drafter: Checkpoint, layout: CausalLayout) -> HeadSource:
    """Return the head of a drafter that uses its input embedding as one."""
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
