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
from typing import TYPE_CHECKING, Any, ClassVar

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.fused import NOT_TRUNK, Fused
from vocabtrim.families.tiny import tiny_config, tiny_layer, write_tiny
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import (
    EMBEDDING,
    FUSION,
    MIDLAYER,
    Layout,
    feature_layers,
    is_eagle3,
    layout_of,
)
from vocabtrim.tensors.head_source import HeadSource
from vocabtrim.tensors.speculators_config import LAYER_CONFIG, flat_config

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter


@dataclass(frozen=True)
class Eagle3(Fused):
    """The family of EAGLE-3 drafters."""

    name: str = "eagle3"
    summary: str = "EAGLE-3: one decoder layer on three of the target's features"
    sidecar: bool = False
    token_map: bool = False
    decoded: bool = True
    once: ClassVar[tuple[str, ...]] = ("fc.", "fc_norm.", "input_norm.")

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Return whether it has the fusion layer and the norm of EAGLE-3."""
        return is_eagle3(checkpoint)

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
        tensors = read_tensors(drafter, model.dtype, without=NOT_TRUNK - {EMBEDDING})
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
        config = {
            **tiny_config(hidden, vocab_size),
            "architectures": ["LlamaForCausalLMEagle3"],
            "attention_bias": False,
            "draft_vocab_size": vocab_size,
            "eagle_aux_hidden_state_layer_ids": [1, 2, 3],
            "target_hidden_size": hidden,
        }
        shapes: dict[str, tuple[int, ...]] = {
            FUSION: (hidden, 3 * hidden),
            "norm.weight": (hidden,),
            **tiny_layer(MIDLAYER, hidden, reads=2 * hidden),
            f"{MIDLAYER}input_layernorm.weight": (hidden,),
            f"{MIDLAYER}hidden_norm.weight": (hidden,),
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
