"""EAGLE-3 drafters, flat and in speculators' layout (Li et al., arXiv 2503.01840).

One decoder layer reads the token's embedding beside a feature that `fc` fuses
from three of the target's layers, so its q/k/v projections are 2H wide and it
has a `hidden_norm` that no ordinary layer has; that is how one is recognised.
The layouts, and what their configs call things, are `tensors/eagle3_layout.py`;
trimming leaves a drafter in the one it has. The input embedding is usually the
target's and not stored. So may be the LM head, where it is not reduced.

`fc` runs once a cycle, on the target's features; later steps feed the drafter's
own. Not covered: P-EAGLE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import borrowed_head, check_whole, fused_cost, write_tiny
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import (
    EMBEDDING,
    FUSION,
    Layout,
    feature_layers,
    is_eagle3,
    layout_of,
)
from vocabtrim.tensors.head_source import (
    D2T,
    HEAD_BIAS,
    HEAD_WEIGHT,
    T2D,
    HeadSource,
    stores_head,
)
from vocabtrim.tensors.speculators_config import LAYER_CONFIG, flat_config

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter

_NOT_TRUNK = frozenset({EMBEDDING, HEAD_WEIGHT, HEAD_BIAS, D2T, T2D})
_ONCE_A_CYCLE = ("fc.", "fc_norm.", "input_norm.")


@dataclass(frozen=True)
class Eagle3:
    """The family of EAGLE-3 drafters."""

    name: str = "eagle3"
    summary: str = "EAGLE-3: one decoder layer on three of the target's features"
    sidecar: bool = False
    token_map: bool = False
    decoded: bool = True

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Return whether it has the fusion layer and the norm of EAGLE-3."""
        return is_eagle3(checkpoint)

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

    def trimmed_config(
        self, config: Mapping[str, Any], vocab: DraftVocab, head: HeadSource
    ) -> dict[str, Any]:
        """Return the config with K in place of V where drafting is meant.

        `vocab_size` stays V: engines size the embedding and the map by it.
        """
        changed = {**config, "draft_vocab_size": vocab.size}
        if head.stays(vocab):
            return changed
        decoder = {"tie_word_embeddings": False}
        decoder |= head.logit_keys() if head.origin.of_target else {}
        if layout_of(config) is Layout.FLAT:
            return changed | decoder
        return changed | {LAYER_CONFIG: {**config[LAYER_CONFIG], **decoder}}

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
        trunk = [info for name, info in drafter.tensors.items() if name not in _NOT_TRUNK]
        once = [info for info in trunk if info.name.startswith(_ONCE_A_CYCLE)]
        return fused_cost(drafter, target, head, trunk=trunk, once_a_cycle=once, itemsize=itemsize)

    def load_drafter(
        self, drafter: Checkpoint, target: Checkpoint, model: Any, vocab: DraftVocab | None
    ) -> Drafter:
        """Open it for decoding; embedding and head may be the target's.

        Raises:
            CheckpointError: It is damaged, or does not fit the target.
            VocabError: Its head has no row for an id.
            DecodeError: Its arithmetic is not known here.
        """
        from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
        from vocabtrim.decode.weights import read_head, read_tensors

        source = self.head(drafter, target)
        kept = source.held if vocab is None else vocab.over(source.held.vocab_size)
        tensors = read_tensors(drafter, model.dtype, without=_NOT_TRUNK - {EMBEDDING})
        embeddings = tensors.pop(EMBEDDING, model.get_input_embeddings().weight)
        layers = feature_layers(drafter.config, target.integer("num_hidden_layers"))
        _check_widths(drafter, len(layers), model.get_input_embeddings().weight.shape[1])
        head = read_head(source, kept, model.dtype)
        flat = layout_of(drafter.config) is Layout.FLAT
        config = drafter.config if flat else flat_config(drafter.config)
        return Eagle3Drafter(config, tensors, embeddings, head, layers)

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


PLUGIN = Eagle3()
