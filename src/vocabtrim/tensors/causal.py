"""Where an ordinary causal LM keeps its input embedding and its LM head.

Targets and independent drafters are both ordinary causal LMs in the layout of
transformers, so what is known of that layout is here once: the names, whether
the two matrices are one (tied), and what a decoding step reads.

A step reads every weight but the input embedding, of which it takes one row. Of
a mixture of experts a token reads the share that it is routed to; of a model
that also sees, only the language model counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.tensors.checkpoint import Checkpoint, TensorInfo

EMBEDDING_NAMES = (
    "model.embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
)
HEAD_NAMES = ("lm_head.weight", "language_model.lm_head.weight")

_EXPERTS_TOTAL = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class CausalLayout:
    """The two vocabulary matrices of a causal LM.

    Args:
        embedding: The input embedding [V, H].
        head: The LM head [V or K, H]; the embedding itself where tied.
        bias: The head's bias [V or K], where it has one.
        duplicate: A stored copy of a tied head, which loaders ignore.
    """

    embedding: TensorInfo
    head: TensorInfo
    bias: TensorInfo | None = None
    duplicate: TensorInfo | None = None

    @property
    def tied(self) -> bool:
        """Whether head and embedding are one matrix."""
        return self.head is self.embedding


def has_causal_layout(checkpoint: Checkpoint) -> bool:
    """Return whether the tensors are named as those of a causal LM."""
    return any(name in checkpoint.tensors for name in EMBEDDING_NAMES)


def causal_layout(checkpoint: Checkpoint) -> CausalLayout:
    """Find the vocabulary matrices of a causal LM.

    Where the config ties them and the file holds both, they are one if their
    bytes are equal, and two otherwise: so transformers loads such a file.

    Raises:
        CheckpointError: It is no causal LM, or it has neither a head nor leave
            to use its embedding as one.
    """
    embedding = _first(checkpoint, EMBEDDING_NAMES)
    if embedding is None:
        raise CheckpointError(
            f"it is no causal LM: there is no {EMBEDDING_NAMES[0]}", path=checkpoint.path
        )
    head = _first(checkpoint, HEAD_NAMES)
    says_tied = checkpoint.config.get(
        "tie_word_embeddings", checkpoint.text_config.get("tie_word_embeddings")
    )
    if head is None:
        if says_tied is False:
            raise CheckpointError(
                f"it has no {HEAD_NAMES[0]}, and its config says that the embedding is not tied",
                path=checkpoint.path,
            )
        return CausalLayout(_matrix(embedding), embedding)
    bias = checkpoint.tensors.get(head.name.removesuffix("weight") + "bias")
    if says_tied and _equal_bytes(checkpoint, embedding, head):
        return CausalLayout(_matrix(embedding), embedding, bias, duplicate=head)
    return CausalLayout(_matrix(embedding), _matrix(head), bias)


def target_cost(checkpoint: Checkpoint, *, itemsize: float | None = None) -> StepCost:
    """Return what one decoding step of a target holds and reads.

    Args:
        checkpoint: A causal LM.
        itemsize: Bytes a weight, where the model runs in another precision than
            it is stored in.

    Raises:
        CheckpointError: It is no causal LM.
    """
    layout = causal_layout(checkpoint)
    trunk = trunk_tensors(checkpoint, layout)
    trunk_bytes = sum(info.bytes_at(itemsize) * _share(checkpoint, info) for info in trunk)
    head = [layout.head, *([layout.bias] if layout.bias else [])]
    head_bytes = sum(info.bytes_at(itemsize) for info in head)
    embedding_params = 0 if layout.tied else layout.embedding.n_params
    return StepCost(
        params=sum(info.n_params for info in (*trunk, *head)) + embedding_params,
        head_params=sum(info.n_params for info in head),
        step_bytes=round(trunk_bytes) + head_bytes + row_bytes(layout.embedding, itemsize),
        head_bytes=head_bytes,
    )


def trunk_tensors(checkpoint: Checkpoint, layout: CausalLayout) -> list[TensorInfo]:
    """Return the language model's tensors besides embedding and head."""
    vocabulary = {
        info.name
        for info in (layout.embedding, layout.head, layout.bias, layout.duplicate)
        if info is not None
    }
    sees = checkpoint.text_config is not checkpoint.config
    return [
        info
        for name, info in checkpoint.tensors.items()
        if name not in vocabulary and (not sees or "language_model." in name)
    ]


def row_bytes(matrix: TensorInfo, itemsize: float | None) -> int:
    """Return the bytes of one row of `matrix`, at `itemsize` or as stored."""
    return matrix.bytes_at(itemsize) // max(matrix.shape[0], 1)


def _share(checkpoint: Checkpoint, info: TensorInfo) -> float:
    """Return the share of a tensor that one token reads."""
    routed = checkpoint.text_config.get("num_experts_per_tok")
    total = next(
        (checkpoint.text_config[key] for key in _EXPERTS_TOTAL if key in checkpoint.text_config),
        None,
    )
    if ".experts." in info.name and routed and total:
        return float(routed) / float(total)
    return 1.0


def _first(checkpoint: Checkpoint, names: Iterable[str]) -> TensorInfo | None:
    return next((checkpoint.tensors[name] for name in names if name in checkpoint.tensors), None)


def _matrix(info: TensorInfo) -> TensorInfo:
    if len(info.shape) != 2:
        raise CheckpointError(
            f"{info.name} must be a matrix, found shape {list(info.shape)}", path=info.file
        )
    return info


def _equal_bytes(checkpoint: Checkpoint, one: TensorInfo, other: TensorInfo) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    pairs = zip(checkpoint.chunks(one.name), checkpoint.chunks(other.name), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
