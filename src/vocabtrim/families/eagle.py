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
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import trimmed_architectures
from vocabtrim.families.fused import Fused
from vocabtrim.families.tiny import tiny_config, tiny_layer, write_tiny
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import FIRST_LAYER, FUSION
from vocabtrim.tensors.head_source import HeadSource

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter


@dataclass(frozen=True)
class Eagle(Fused):
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
        config = {**tiny_config(hidden, vocab_size), "bias": True}
        shapes: dict[str, tuple[int, ...]] = {
            FUSION: (hidden, 2 * hidden),
            "fc.bias": (hidden,),
            **tiny_layer(FIRST_LAYER, hidden),
        }
        write_tiny(directory, config, shapes, seed)


PLUGIN = Eagle()
