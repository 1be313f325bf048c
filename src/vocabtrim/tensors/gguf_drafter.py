"""A drafter that is a GGUF file: where its head is, and which ids it stands for.

llama.cpp reads a reduced head for the architectures named here: `output.weight`
of K rows with `d2t`, K absolute ids as I64 (`src/models/eagle3.cpp`,
`dflash.cpp`; open pull request 29143 for the multi-token heads of Qwen3.5). A
map may come in any order there, so rows are found by id and written in ascending
order. Logits are sized by the tokenizer, hence V is its number of tokens.

A head that is missing is the target's. So is, where a block drafter or a
multi-token head brings its input embedding, that embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, VocabError
from vocabtrim.core.metrics import StepCost, untied_parameters
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.causal import causal_layout, row_bytes
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import GgufModel
from vocabtrim.tensors.head_source import D2T, HeadOrigin
from vocabtrim.tensors.tensor_info import TensorInfo

OUTPUT, EMBEDDING = "output.weight", "token_embd.weight"

_LOOKUPS = frozenset(
    {EMBEDDING, "markov_w1.weight", "selector_prev.weight", "selector_next.weight"}
)
"""Tables of V rows of which a step reads one."""


@dataclass(frozen=True)
class GgufKind:
    """How llama.cpp drafts with one architecture.

    Args:
        family: What we call it.
        followers: Tensors whose rows run over the draft vocabulary as well.
        once: Prefixes of what runs once a cycle.
        embeds: Whether its own input embedding is its head where it has none.
        needs: What stock llama.cpp lacks to read the result, if anything.
    """

    family: str
    followers: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    embeds: bool = False
    needs: str | None = None


_MTP = GgufKind(
    "mtp", embeds=True, needs="a multi-token head of fewer rows (llama.cpp's pull request 29143)"
)
KINDS = MappingProxyType(
    {
        "eagle3": GgufKind("eagle3", once=("fc.", "enc.")),
        "dflash": GgufKind("dflash", followers=("markov_w2.weight",), embeds=True),
        "qwen35": _MTP,
        "qwen35moe": _MTP,
    }
)
"""Architecture to how it drafts."""


def drafter_kind(model: GgufModel) -> GgufKind | None:
    """Return how a model drafts; None where it is no drafter by itself."""
    kind = KINDS.get(model.architecture)
    if kind is _MTP and "blk.0.attn_norm.weight" in model.tensors:
        return None
    return kind


def needs_target(model: GgufModel, kind: GgufKind) -> bool:
    """Return whether a drafter's head is the target's."""
    own = [*_head_names(model), *([EMBEDDING] if kind.embeds else [])]
    return not any(name in model.tensors for name in own)


@dataclass(frozen=True, eq=False)
class GgufHead:
    """The head of a GGUF drafter as it is before trimming.

    Args:
        holder: Holds the rows: the drafter or the target.
        weight: The matrix [rows, H] that drafts.
        name: What the trimmed drafter calls it.
        followers: Tensors of the drafter that lose the same rows.
        origin: Whose matrix it is.
        held: The ids that it has rows for.
        order: Row of each of them.
    """

    holder: Checkpoint
    weight: TensorInfo
    name: str
    followers: tuple[TensorInfo, ...]
    origin: HeadOrigin
    held: DraftVocab
    order: NDArray[np.int64]

    def rows(self, vocab: DraftVocab) -> NDArray[np.int64]:
        """Return the row of each id, [K] int64.

        Raises:
            VocabError: An id has no row.
        """
        return self.order[vocab.rows_in(self.held)]


def gguf_head(
    drafter: GgufModel, kind: GgufKind, target: GgufModel | Checkpoint | None
) -> GgufHead:
    """Find the head of a drafter.

    Args:
        drafter: The drafter.
        kind: How it drafts.
        target: The target, where the head may be the target's.

    Raises:
        CheckpointError: It is the target's and no target was given, the target
            is another model's, or head and map contradict each other.
    """
    own = [drafter.tensors[name] for name in _head_names(drafter) if name in drafter.tensors]
    followers = [drafter.tensors[name] for name in kind.followers if name in drafter.tensors]
    for info in (*own, *followers):
        if len(info.shape) != 2:
            raise CheckpointError(
                f"{info.name} must be a matrix, found shape {list(info.shape)}", path=info.file
            )
    if own:
        held, order = _mapped(drafter, own[0].shape[0])
        weight, origin, holder = own[0], HeadOrigin.OWN, drafter.weights
    else:
        if D2T in drafter.tensors:
            raise CheckpointError(
                f"it has {D2T} but no {OUTPUT}: llama.cpp would draft with the wrong rows",
                path=drafter.path,
            )
        weight, origin, holder = _borrowed(drafter, kind, target)
        held = DraftVocab.full(drafter.vocab_size)
        order = held.ids
    hidden = drafter.integer("embedding_length")
    if len(weight.shape) != 2 or weight.shape[1] != hidden or weight.shape[0] <= int(order.max()):
        raise CheckpointError(
            f"{weight.name} has shape {list(weight.shape)}, but the drafter needs "
            f"{[held.vocab_size, hidden]}",
            path=weight.file,
        )
    for info in (*own, *followers):
        if info.shape[0] != held.size:
            raise CheckpointError(
                f"{info.name} has {info.shape[0]} rows, but the drafter has {held.size} ids",
                path=info.file,
            )
    name = own[0].name if own else OUTPUT
    return GgufHead(holder, weight, name, (*own[1:], *followers), origin, held, order)


def gguf_cost(drafter: GgufModel, kind: GgufKind, head: GgufHead) -> StepCost:
    """Return what a draft step holds and reads.

    A block drafter's step is its one pass over the block.
    """
    heads = [head.weight, *head.followers]
    inside = {info.name for info in heads} | _LOOKUPS | {D2T}
    trunk = [info for name, info in drafter.tensors.items() if name not in inside]
    cycle = sum(info.nbytes for info in trunk if info.name.startswith(kind.once or ("\0",)))
    rows, V = head.held.size, head.held.vocab_size
    hidden = head.weight.shape[1]
    # A matrix of the target may be padded beyond the drafter's ids.
    head_bytes = rows * head.weight.row_bytes + sum(info.nbytes for info in head.followers)
    embedding = drafter.tensors.get(EMBEDDING, head.weight)
    beside = sum(info.n_params for info in head.followers)
    return StepCost(
        params=untied_parameters(sum(info.n_params for info in trunk) + beside, hidden, V, rows),
        head_params=rows * hidden + beside,
        step_bytes=sum(info.nbytes for info in trunk)
        - cycle
        + head_bytes
        + row_bytes(embedding, None),
        head_bytes=head_bytes,
        cycle_bytes=cycle,
    )


def _head_names(drafter: GgufModel) -> list[str]:
    """Return what may be its head, the one that drafts first."""
    nextn = [name for name in drafter.tensors if name.endswith(".nextn.shared_head_head.weight")]
    return [*nextn, OUTPUT]


def _mapped(drafter: GgufModel, rows: int) -> tuple[DraftVocab, NDArray[np.int64]]:
    V = drafter.vocab_size
    info = drafter.tensors.get(D2T)
    if info is None:
        if rows != V:
            raise CheckpointError(
                f"its head has {rows} of {V} rows and no {D2T} says for which ids",
                path=drafter.path,
            )
        return DraftVocab.full(V), np.arange(V, dtype=np.int64)
    if info.dtype != "I64" or info.shape != (rows,):
        raise CheckpointError(
            f"its {D2T} is {info.dtype} of shape {list(info.shape)}, but {rows} ids as I64 are "
            "needed, one a row of its head",
            path=info.file,
        )
    ids = drafter.weights.array(D2T)
    order = np.argsort(ids, kind="stable").astype(np.int64)
    try:
        return DraftVocab(ids[order], V), order
    except VocabError as fault:
        raise CheckpointError(
            f"its {D2T} is no draft vocabulary: {fault}", path=info.file
        ) from fault


def _borrowed(
    drafter: GgufModel, kind: GgufKind, target: GgufModel | Checkpoint | None
) -> tuple[TensorInfo, HeadOrigin, Checkpoint]:
    if kind.embeds and EMBEDDING in drafter.tensors:
        return drafter.tensors[EMBEDDING], HeadOrigin.OWN_EMBEDDING, drafter.weights
    if target is None:
        raise CheckpointError(
            f"it has no {OUTPUT}, so its head is the target's: give --target", path=drafter.path
        )
    if isinstance(target, Checkpoint):
        layout = causal_layout(target)
        origin = HeadOrigin.TARGET_EMBEDDING if layout.tied else HeadOrigin.TARGET
        return layout.head, origin, target
    for name, origin in (
        (OUTPUT, HeadOrigin.TARGET),
        (EMBEDDING, HeadOrigin.TARGET_EMBEDDING),
    ):
        if name in target.tensors:
            return target.tensors[name], origin, target.weights
    raise CheckpointError(f"it has neither {OUTPUT} nor {EMBEDDING}", path=target.path)
