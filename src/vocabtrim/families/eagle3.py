"""EAGLE-3 drafters in the flat layout (Li et al., arXiv 2503.01840).

One decoder layer reads the token's embedding beside a feature that `fc` fuses
from three of the target's layers, so its q/k/v projections are 2H wide and it
has a `hidden_norm` that no ordinary layer has; that is how one is recognised.
Layout: SafeAILab/EAGLE `eagle/model/cnets.py`; SpecForge and ModelOpt write the
same with `layers.0.` in place of `midlayer.`. The input embedding is usually the
target's and not stored. So may be the LM head, where it is not reduced.

`fc` runs once a cycle, on the target's features; later steps feed the drafter's
own. Not covered: the nested config of speculators, and P-EAGLE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost, untied_parameters
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import write_tiny
from vocabtrim.tensors.causal import causal_layout, row_bytes
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import (
    D2T,
    HEAD_BIAS,
    HEAD_WEIGHT,
    T2D,
    HeadSource,
    held_vocabulary,
    own_head,
    target_head,
)

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter

EMBEDDING = "embed_tokens.weight"
FUSION = "fc.weight"
LAYER_PREFIXES = ("midlayer.", "layers.0.")

_NOT_TRUNK = frozenset({EMBEDDING, HEAD_WEIGHT, HEAD_BIAS, D2T, T2D})
_ONCE_A_CYCLE = ("fc.", "fc_norm.", "input_norm.")


@dataclass(frozen=True)
class Eagle3:
    """The family of EAGLE-3 drafters."""

    name: str = "eagle3"
    summary: str = "EAGLE-3: one decoder layer on three of the target's features"

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Return whether it has the fusion layer and the norm of EAGLE-3."""
        return (
            FUSION in checkpoint.tensors
            and any(
                f"{prefix}hidden_norm.weight" in checkpoint.tensors for prefix in LAYER_PREFIXES
            )
            and "mask_hidden" not in checkpoint.tensors
            and "hidden_size" in checkpoint.config
        )

    def vocab_size(self, drafter: Checkpoint) -> int:
        """Return V, the target's padded vocabulary, which the config repeats."""
        return drafter.integer("vocab_size")

    def needs_target(self, drafter: Checkpoint) -> bool:
        """Return whether it stores no head of its own."""
        return HEAD_WEIGHT not in drafter.tensors

    def head(self, drafter: Checkpoint, target: Checkpoint | None) -> HeadSource:
        """Find the head: its own, or else the target's.

        Raises:
            CheckpointError: It is the target's and no target was given, or head,
                maps and config contradict each other.
        """
        V = self.vocab_size(drafter)
        if not self.needs_target(drafter):
            return own_head(drafter, V)
        _check_whole(drafter, V)
        if target is None:
            raise CheckpointError(
                f"it has no {HEAD_WEIGHT}, so its head is the target's: give --target",
                path=drafter.path,
            )
        return target_head(target, vocab_size=V, hidden=drafter.integer("hidden_size"))

    def trimmed_config(
        self, config: Mapping[str, Any], vocab: DraftVocab, head: HeadSource
    ) -> dict[str, Any]:
        """Return the config with K in place of V where drafting is meant.

        `vocab_size` stays V: engines size the embedding and the map by it.
        """
        changed = {**config, "draft_vocab_size": vocab.size}
        if not head.stays(vocab):
            changed |= {"tie_word_embeddings": False}
            changed |= head.logit_keys() if head.origin.of_target else {}
        return changed

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
        V, H = self.vocab_size(drafter), drafter.integer("hidden_size")
        own_row = round(H * _precision(drafter, itemsize))
        rows, bias, head_bytes, embedding_row = V, 0, V * own_row, own_row
        if target is None and self.needs_target(drafter):
            _check_whole(drafter, V)
        else:
            head = self.head(drafter, target)
            rows = head.held.size
            bias = sum(info.n_params for info in head.infos) - head.weight.n_params
            head_bytes = sum(info.bytes_at(itemsize) for info in head.infos)
        if EMBEDDING in drafter.tensors:
            embedding_row = row_bytes(drafter.tensors[EMBEDDING], itemsize)
        elif target is not None:
            embedding_row = row_bytes(causal_layout(target).embedding, itemsize)
        trunk = [info for name, info in drafter.tensors.items() if name not in _NOT_TRUNK]
        once = [info for info in trunk if info.name.startswith(_ONCE_A_CYCLE)]
        cycle_bytes = sum(info.bytes_at(itemsize) for info in once)
        trunk_bytes = sum(info.bytes_at(itemsize) for info in trunk)
        trunk_params = sum(info.n_params for info in trunk)
        return StepCost(
            params=untied_parameters(trunk_params + bias, H, V, rows),
            head_params=rows * H + bias,
            step_bytes=trunk_bytes - cycle_bytes + head_bytes + embedding_row,
            head_bytes=head_bytes,
            cycle_bytes=cycle_bytes,
        )

    def load_drafter(
        self, drafter: Checkpoint, target: Checkpoint, model: Any, vocab: DraftVocab | None
    ) -> Drafter:
        """Open it for decoding; embedding and head may be the target's.

        Raises:
            CheckpointError: It is damaged, or does not fit the target.
            VocabError: Its head has no row for an id.
            DecodeError: Its arithmetic is not known here.
        """
        from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter, feature_layers
        from vocabtrim.decode.weights import read_head, read_tensors

        source = self.head(drafter, target)
        kept = source.held if vocab is None else vocab.over(source.held.vocab_size)
        tensors = read_tensors(drafter, model.dtype, without=_NOT_TRUNK - {EMBEDDING})
        embeddings = tensors.pop(EMBEDDING, model.get_input_embeddings().weight)
        layers = feature_layers(drafter.config, target.integer("num_hidden_layers"))
        _check_widths(drafter, len(layers), model.get_input_embeddings().weight.shape[1])
        head = read_head(source, kept, model.dtype)
        return Eagle3Drafter(drafter.config, tensors, embeddings, head, layers)

    def tiny_checkpoint(
        self, directory: Path, *, vocab_size: int = 96, hidden: int = 32, seed: int = 0
    ) -> None:
        """Write a drafter whose embedding and head are the target's, for tests."""
        head_dim, heads, kv_heads, inner = hidden // 4, 4, 2, 2 * hidden
        config = {
            "architectures": ["LlamaForCausalLMEagle3"],
            "model_type": "llama",
            "attention_bias": False,
            "draft_vocab_size": vocab_size,
            "eagle_aux_hidden_state_layer_ids": [1, 2, 3],
            "head_dim": head_dim,
            "hidden_act": "silu",
            "hidden_size": hidden,
            "intermediate_size": inner,
            "max_position_embeddings": 512,
            "num_attention_heads": heads,
            "num_hidden_layers": 1,
            "num_key_value_heads": kv_heads,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "target_hidden_size": hidden,
            "tie_word_embeddings": False,
            "vocab_size": vocab_size,
        }
        layer = {
            "self_attn.q_proj": (heads * head_dim, 2 * hidden),
            "self_attn.k_proj": (kv_heads * head_dim, 2 * hidden),
            "self_attn.v_proj": (kv_heads * head_dim, 2 * hidden),
            "self_attn.o_proj": (hidden, heads * head_dim),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,),
            "hidden_norm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        shapes: dict[str, tuple[int, ...]] = {
            FUSION: (hidden, 3 * hidden),
            "norm.weight": (hidden,),
            **{f"midlayer.{name}.weight": shape for name, shape in layer.items()},
        }
        write_tiny(directory, config, shapes, seed)


def _check_widths(drafter: Checkpoint, states: int, hidden: int) -> None:
    """Refuse a drafter whose fusion layer reads other states than the target has."""
    reads = drafter.tensor(FUSION).shape[-1]
    if reads != states * hidden:
        raise CheckpointError(
            f"{FUSION} reads {reads} values, but {states} hidden states of the target have "
            f"{states * hidden}: it was trained for another target",
            path=drafter.path,
        )


def _check_whole(drafter: Checkpoint, V: int) -> None:
    """Refuse a drafter without a head that says it drafts over fewer than all ids."""
    stated = drafter.config.get("draft_vocab_size")
    if stated not in (None, V):
        raise CheckpointError(
            f"it drafts over {stated} of {V} ids but has no {HEAD_WEIGHT}: "
            "engines would read the wrong rows of the target's",
            path=drafter.path,
        )
    # SpecForge writes a map of zeros beside a full vocabulary.
    held_vocabulary(drafter, V, V)


def _precision(drafter: Checkpoint, itemsize: float | None) -> float:
    """Return bytes a weight: those asked for, or else those of the fusion layer."""
    fusion = drafter.tensors[FUSION]
    return fusion.nbytes / fusion.n_params if itemsize is None else itemsize


PLUGIN = Eagle3()
