"""EAGLE-1 and EAGLE-2 drafters (Li et al., arXiv 2401.15077 and 2406.16858).

One decoder layer reads `fc` of the token's embedding beside the target's last
feature, [H, 2H]; it is an ordinary layer otherwise, and the two versions differ
in the tree that they draft, not in the file. The head is the target's. Layout:
SafeAILab/EAGLE `eagle/model/cnets1.py`.

No engine reads a reduced head of such a drafter; SGLang slices the target's when
it is given a list of ids (`--speculative-token-map`). So trimming writes both: the
rows with their maps, under a class name that stock loaders refuse, and the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import (
    borrowed_head,
    check_whole,
    fused_cost,
    trimmed_architectures,
    write_tiny,
)
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import EMBEDDING, FIRST_LAYER, FUSION
from vocabtrim.tensors.head_source import (
    D2T,
    HEAD_BIAS,
    HEAD_WEIGHT,
    T2D,
    HeadSource,
    stores_head,
)

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter

_NOT_TRUNK = frozenset({EMBEDDING, HEAD_WEIGHT, HEAD_BIAS, D2T, T2D})


@dataclass(frozen=True)
class Eagle:
    """The family of EAGLE-1 and EAGLE-2 drafters."""

    name: str = "eagle"
    summary: str = "EAGLE-1 and EAGLE-2: one decoder layer on the target's last feature"
    sidecar: bool = False
    token_map: bool = True
    decoded: bool = False

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Return whether it has the fusion layer of EAGLE, and no norm on the feature."""
        hidden = checkpoint.config.get("hidden_size")
        return (
            FUSION in checkpoint.tensors
            and type(hidden) is int
            and checkpoint.tensors[FUSION].shape == (hidden, 2 * hidden)
            and any(name.startswith(f"{FIRST_LAYER}self_attn.") for name in checkpoint.tensors)
            and not any(name.endswith("hidden_norm.weight") for name in checkpoint.tensors)
        )

    def vocab_size(self, drafter: Checkpoint) -> int:
        """Return V, the target's padded vocabulary, which the config repeats."""
        return drafter.integer("vocab_size")

    def needs_target(self, drafter: Checkpoint) -> bool:
        """Return whether it stores no head: untrimmed, it uses the target's."""
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
        """Return the config, under a name that stock loaders refuse while K < V."""
        changed = {
            **config,
            "architectures": trimmed_architectures(config, full=vocab.is_full),
            "draft_vocab_size": vocab.size,
        }
        if not head.stays(vocab):
            changed |= {"tie_word_embeddings": False}
            changed |= head.logit_keys() if head.origin.of_target else {}
        return changed

    def cost(
        self, drafter: Checkpoint, target: Checkpoint | None, *, itemsize: float | None = None
    ) -> StepCost:
        """Return what a draft step holds and reads; `fc` runs in every step.

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
        return fused_cost(drafter, target, head, trunk=trunk, itemsize=itemsize)

    def load_drafter(
        self, drafter: Checkpoint, target: Checkpoint, model: Any, vocab: DraftVocab | None
    ) -> Drafter:
        """Refuse: these drafters are served by engines, and not decoded here.

        Raises:
            DecodeError: Always.
        """
        raise DecodeError(f"{drafter.path}: EAGLE-1 and EAGLE-2 are not decoded here; SGLang may")

    def tiny_checkpoint(
        self, directory: Path, *, vocab_size: int = 96, hidden: int = 32, seed: int = 0
    ) -> None:
        """Write a drafter whose embedding and head are the target's, for tests."""
        head_dim, heads, kv_heads, inner = hidden // 4, 4, 2, 2 * hidden
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "bias": True,
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
            "tie_word_embeddings": False,
            "vocab_size": vocab_size,
        }
        layer = {
            "self_attn.q_proj": (heads * head_dim, hidden),
            "self_attn.k_proj": (kv_heads * head_dim, hidden),
            "self_attn.v_proj": (kv_heads * head_dim, hidden),
            "self_attn.o_proj": (hidden, heads * head_dim),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
            "post_attention_layernorm": (hidden,),
        }
        shapes: dict[str, tuple[int, ...]] = {
            FUSION: (hidden, 2 * hidden),
            "fc.bias": (hidden,),
            **{f"{FIRST_LAYER}{name}.weight": shape for name, shape in layer.items()},
        }
        write_tiny(directory, config, shapes, seed)


PLUGIN = Eagle()
