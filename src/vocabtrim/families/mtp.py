"""Drafters that a target brings along: native multi-token prediction.

The prediction layers of Qwen3-Next, Qwen3.5, DeepSeek-V3 and those built alike
(`tensors/native_mtp.py`) draft over the target's own head. The target, which may
be hundreds of gigabytes, is left alone: trimming reads the kept rows of its head
and nothing else, and writes a *sidecar*: the rows, `d2t` and `t2d`, the ids as a
list, and a config that says of which layout they are, what a step reads besides
and how the target's config reads. SGLang takes the list
(`--speculative-token-map`), vLLM the rows through our plug-in.

A sidecar is recognised by that config, and can be trimmed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import CheckpointError, DecodeError
from vocabtrim.core.metrics import StepCost, untied_parameters
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.tiny import write_tiny
from vocabtrim.tensors.causal import (
    prediction_layers,
    read_share,
    row_bytes,
    stored_matrices,
)
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import HeadSource, host_head, own_head
from vocabtrim.tensors.mtp_sidecar import REMEMBERED, SIDECAR, is_sidecar, remember_target

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter


@dataclass(frozen=True)
class _Trunk:
    """What a draft step holds and reads besides its head, as a sidecar remembers it.

    Args:
        layout: Of the prediction layers.
        params: Their parameters.
        read_params: Those that one step reads: experts in part, one depth of several.
        read_bytes: The same in bytes, as stored.
        embedding_params: H, values of one row of the input embedding.
        embedding_bytes: The same in bytes, as stored.
    """

    layout: str
    params: int
    read_params: int
    read_bytes: int
    embedding_params: int
    embedding_bytes: int

    def __post_init__(self) -> None:
        counts = [value for value in asdict(self).values() if value != self.layout]
        if type(self.layout) is not str or any(type(one) is not int or one < 0 for one in counts):
            raise CheckpointError(f"a sidecar remembers its target as {asdict(self)}: not numbers")

    def step_bytes(self, itemsize: float | None) -> int:
        """Return the bytes that a step reads besides its head."""
        if itemsize is None:
            return self.read_bytes + self.embedding_bytes
        return round((self.read_params + self.embedding_params) * itemsize)


@dataclass(frozen=True)
class Mtp:
    """The family of native prediction layers."""

    name: str = "mtp"
    summary: str = "a target's own prediction layers (Qwen3-Next, DeepSeek-V3): writes a sidecar"
    sidecar: bool = True
    token_map: bool = True
    decoded: bool = False

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Return whether it is a target with prediction layers, or a sidecar of one."""
        return (
            _remembered(checkpoint.config) is not None or prediction_layers(checkpoint) is not None
        )

    def vocab_size(self, drafter: Checkpoint) -> int:
        """Return V: the rows of the target's head.

        Raises:
            CheckpointError: The target's head cannot be found.
        """
        if _remembered(drafter.config) is not None:
            return drafter.integer("vocab_size")
        return stored_matrices(drafter).head.shape[0]

    def needs_target(self, drafter: Checkpoint) -> bool:
        """Return False: it is part of the target, or has rows of its own."""
        return False

    def head(self, drafter: Checkpoint, target: Checkpoint | None) -> HeadSource:
        """Find the head: that of the target it is part of, or the sidecar's own.

        Raises:
            CheckpointError: Head, maps and config contradict each other.
        """
        if _remembered(drafter.config) is not None:
            return own_head(drafter, drafter.integer("vocab_size"))
        return host_head(drafter)

    def trimmed_config(
        self, config: Mapping[str, Any], vocab: DraftVocab, head: HeadSource
    ) -> dict[str, Any]:
        """Return the sidecar's config: sizes, logit keys, and what the target reads."""
        remembered: Mapping[str, Any] = (
            config[REMEMBERED]
            if is_sidecar(config)
            else {SIDECAR: asdict(_trunk(head.checkpoint))} | remember_target(head.checkpoint)
        )
        V, H = vocab.vocab_size, head.weight.shape[1]
        logits = head.logit_keys()
        return {
            "architectures": ["VocabtrimMtpSidecar"],
            "vocab_size": V,
            "draft_vocab_size": vocab.size,
            "hidden_size": H,
            **logits,
            REMEMBERED: remembered,
        }

    def cost(
        self, drafter: Checkpoint, target: Checkpoint | None, *, itemsize: float | None = None
    ) -> StepCost:
        """Return what a draft step holds and reads; a sidecar remembers its target's part.

        Raises:
            CheckpointError: As for `head`.
        """
        head = self.head(drafter, target)
        trunk = _remembered(drafter.config) or _trunk(drafter)
        bias = sum(info.n_params for info in head.infos) - head.weight.n_params
        head_bytes = sum(info.bytes_at(itemsize) for info in head.infos)
        K, H = head.weight.shape
        return StepCost(
            params=untied_parameters(trunk.params + bias, H, head.held.vocab_size, K),
            head_params=head.weight.n_params + bias,
            step_bytes=trunk.step_bytes(itemsize) + head_bytes,
            head_bytes=head_bytes,
        )

    def load_drafter(
        self, drafter: Checkpoint, target: Checkpoint, model: Any, vocab: DraftVocab | None
    ) -> Drafter:
        """Refuse: prediction layers are served by engines, and not decoded here.

        Raises:
            DecodeError: Always.
        """
        raise DecodeError(f"{drafter.path}: native prediction layers are not decoded here")

    def tiny_checkpoint(
        self, directory: Path, *, vocab_size: int = 96, hidden: int = 32, seed: int = 0
    ) -> None:
        """Write a target with a prediction layer as Qwen3-Next names it, for tests."""
        config = {
            "architectures": ["Qwen3NextForCausalLM"],
            "model_type": "qwen3_next",
            "hidden_size": hidden,
            "num_hidden_layers": 1,
            "tie_word_embeddings": False,
            "vocab_size": vocab_size,
        }
        shapes: dict[str, tuple[int, ...]] = {
            "lm_head.weight": (vocab_size, hidden),
            "model.embed_tokens.weight": (vocab_size, hidden),
            "model.layers.0.mlp.up_proj.weight": (hidden, hidden),
            "model.norm.weight": (hidden,),
            "mtp.fc.weight": (hidden, 2 * hidden),
            "mtp.layers.0.input_layernorm.weight": (hidden,),
            "mtp.layers.0.mlp.down_proj.weight": (hidden, 2 * hidden),
            "mtp.layers.0.mlp.gate_proj.weight": (2 * hidden, hidden),
            "mtp.layers.0.mlp.up_proj.weight": (2 * hidden, hidden),
            "mtp.layers.0.post_attention_layernorm.weight": (hidden,),
            "mtp.layers.0.self_attn.k_norm.weight": (hidden // 4,),
            "mtp.layers.0.self_attn.k_proj.weight": (hidden // 2, hidden),
            "mtp.layers.0.self_attn.o_proj.weight": (hidden, hidden),
            "mtp.layers.0.self_attn.q_norm.weight": (hidden // 4,),
            "mtp.layers.0.self_attn.q_proj.weight": (2 * hidden, hidden),
            "mtp.layers.0.self_attn.v_proj.weight": (hidden // 2, hidden),
            "mtp.norm.weight": (hidden,),
            "mtp.pre_fc_norm_embedding.weight": (hidden,),
            "mtp.pre_fc_norm_hidden.weight": (hidden,),
        }
        write_tiny(directory, config, shapes, seed)


def _trunk(target: Checkpoint) -> _Trunk:
    """Return what a draft step reads of a target besides its head.

    Raises:
        CheckpointError: It has no prediction layers.
    """
    found = prediction_layers(target)
    if found is None:
        raise CheckpointError("it has no prediction layers", path=target.path)
    shares = [(info, read_share(target, info) / found.depths) for info in found.tensors]
    embedding = stored_matrices(target).embedding
    return _Trunk(
        layout=found.layout,
        params=sum(info.n_params for info in found.tensors),
        read_params=round(sum(info.n_params * share for info, share in shares)),
        read_bytes=round(sum(info.nbytes * share for info, share in shares)),
        embedding_params=embedding.shape[1],
        embedding_bytes=row_bytes(embedding, None),
    )


def _remembered(config: Mapping[str, Any]) -> _Trunk | None:
    """Return what a sidecar's config remembers; None for any other config.

    Raises:
        CheckpointError: It is a sidecar's, and damaged.
    """
    if not is_sidecar(config):
        return None
    try:
        return _Trunk(**config[REMEMBERED][SIDECAR])
    except TypeError as fault:
        raise CheckpointError(f"the config of a sidecar is damaged ({fault})") from fault


PLUGIN = Mtp()
