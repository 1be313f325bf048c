"""Where an ordinary causal LM keeps its input embedding and its LM head.

Targets and independent drafters are both ordinary causal LMs in the layout of
transformers, so what is known of that layout is here once: the names, whether
the two matrices are one (tied), and what a decoding step reads.

A step reads every weight but the input embedding, of which it takes one row. Of
a mixture of experts a token reads the share that it is routed to; of a model
that also sees, only the language model counts; layers that predict further
tokens (`native_mtp.py`) are a drafter and no part of the target's step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.native_mtp import NativeMtp, native_mtp
from vocabtrim.tensors.tensor_info import TensorInfo

EMBEDDING_NAMES = (
    "model.embed_tokens.weight",  # Llama, Qwen, Gemma, Cohere, Granite, Phi, DeepSeek, …
    "language_model.model.embed_tokens.weight",  # the same inside a model that also sees
    "model.language_model.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",  # OPT
    "model.tok_embeddings.weight",  # InternLM2
    "transformer.wte.weight",  # GPT-2, GPT-J, MPT, DBRX
    "wte.weight",  # GPT-2 as first published
    "gpt_neox.embed_in.weight",  # GPT-NeoX, Pythia
    "transformer.word_embeddings.weight",  # Falcon, BLOOM
    "word_embeddings.weight",  # BLOOM as first published
    "backbone.embeddings.weight",  # Mamba
)
HEAD_NAMES = (
    "lm_head.weight",
    "language_model.lm_head.weight",
    "embed_out.weight",  # GPT-NeoX
    "output.weight",  # InternLM2
)

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
    layout = stored_matrices(checkpoint)
    says_tied = _says_tied(checkpoint)
    if not layout.tied and says_tied and _equal_bytes(checkpoint, layout.embedding, layout.head):
        return replace(layout, head=layout.embedding, duplicate=layout.head)
    return layout


def stored_matrices(checkpoint: Checkpoint) -> CausalLayout:
    """Find the vocabulary matrices by name, without reading any of them.

    A tied head that is stored nevertheless counts as a head here; its rows are
    the same either way.

    Raises:
        CheckpointError: As for `causal_layout`, or the head is packed.
    """
    embedding = _first(checkpoint, EMBEDDING_NAMES)
    if embedding is None:
        raise CheckpointError(
            f"it is no causal LM: there is no {EMBEDDING_NAMES[0]}", path=checkpoint.path
        )
    head = _first(checkpoint, HEAD_NAMES)
    if head is None:
        for name in HEAD_NAMES:
            refuse_packed(checkpoint, name)
        if _says_tied(checkpoint) is False:
            raise CheckpointError(
                f"it has no {HEAD_NAMES[0]}, and its config says that the embedding is not tied",
                path=checkpoint.path,
            )
        bias = _first(checkpoint, (_bias_of(name) for name in HEAD_NAMES))
        return CausalLayout(_matrix(embedding), embedding, bias)
    bias = checkpoint.tensors.get(_bias_of(head.name))
    return CausalLayout(_matrix(embedding), _matrix(head), bias)


def refuse_packed(checkpoint: Checkpoint, name: str) -> None:
    """Refuse a head that is stored as more than a matrix and a bias.

    Quantised heads have scales or zero points that follow the vocabulary too;
    left as they were beside fewer rows, they would scale the wrong ones.

    Args:
        checkpoint: Holds the head.
        name: Of its matrix.

    Raises:
        CheckpointError: Something else is stored under its name.
    """
    for other in checkpoint.tensors:
        if other.startswith(name.removesuffix("weight")) and other not in (name, _bias_of(name)):
            raise CheckpointError(
                f"its head is packed ({other}), and rows are taken from plain heads only",
                path=checkpoint.path,
            )


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
    trunk_bytes = sum(info.bytes_at(itemsize) * read_share(checkpoint, info) for info in trunk)
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
    drafter = prediction_layers(checkpoint)
    if drafter is not None:
        vocabulary |= {info.name for info in (*drafter.tensors, *drafter.copies)}
    sees = checkpoint.text_config is not checkpoint.config
    return [
        info
        for name, info in checkpoint.tensors.items()
        if name not in vocabulary and (not sees or "language_model." in name)
    ]


def prediction_layers(checkpoint: Checkpoint) -> NativeMtp | None:
    """Return the multi-token-prediction layers that a target ships, if it does."""
    layers = checkpoint.text_config.get("num_hidden_layers")
    return native_mtp(checkpoint.tensors, layers if type(layers) is int else None)


def row_bytes(matrix: TensorInfo, itemsize: float | None) -> int:
    """Return the bytes of one row of `matrix`, at `itemsize` or as stored."""
    rows = matrix.shape[0] if matrix.shape else 1
    return matrix.bytes_at(itemsize) // max(rows, 1)


def read_share(checkpoint: Checkpoint, info: TensorInfo) -> float:
    """Return the share of a tensor that one token reads: less than 1 for experts."""
    routed = checkpoint.text_config.get("num_experts_per_tok")
    total = next(
        (checkpoint.text_config[key] for key in _EXPERTS_TOTAL if key in checkpoint.text_config),
        None,
    )
    if ".experts." in info.name and routed and total:
        return float(routed) / float(total)
    return 1.0


def _says_tied(checkpoint: Checkpoint) -> bool | None:
    tied = checkpoint.config.get("tie_word_embeddings")
    tied = checkpoint.text_config.get("tie_word_embeddings") if tied is None else tied
    return tied if isinstance(tied, bool) else None


def _bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def _first(checkpoint: Checkpoint, names: Iterable[str]) -> TensorInfo | None:
    return next((checkpoint.tensors[name] for name in names if name in checkpoint.tensors), None)


def _matrix(info: TensorInfo) -> TensorInfo:
    if len(info.shape) != 2:
        raise CheckpointError(
            f"{info.name} must be a matrix, found shape {list(info.shape)}", path=info.file
        )
    return info


def _equal_bytes(checkpoint: Checkpoint, one: TensorInfo, other: TensorInfo) -> bool:
    if (one.file, one.offset, one.nbytes) == (other.file, other.offset, other.nbytes):
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    pairs = zip(checkpoint.chunks(one.name), checkpoint.chunks(other.name), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
