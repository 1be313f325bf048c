"""The one decoder layer of EAGLE-3, as arithmetic without a cache.

A pair is the embedding of a token beside a feature of the position before it,
each normed (EAGLE-3, 2503.01840; layout of SafeAILab/EAGLE
`eagle/model/cnets.py`). Attention reads both, everything behind it the feature
alone. What keys and values there are is the business of who calls: decoding
keeps them in a cache (`eagle3.py`), and a text that is there already is drafted
along without one (`decode/along.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import embedding, rms_norm

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.packed import product
from vocabtrim.tensors.eagle3_layout import LAYER_PREFIXES

OTHER_ARITHMETIC = ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output")

_PROJECTIONS = tuple(
    [f"self_attn.{name}_proj" for name in "qkvo"]
    + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    + ["fc"]
)
_NORMS = ("input_layernorm", "hidden_norm", "post_attention_layernorm", "norm")
_NOT_TRUNK = frozenset({"lm_head.weight", "lm_head.bias", "embed_tokens.weight", "d2t", "t2d"})


class Eagle3Layer:
    """Weights of a drafter besides its head, and what they compute.

    Args:
        config: The drafter's `config.json`.
        tensors: Its weights in the flat layout; head, embedding and maps among
            them are not looked at.
        embeddings: [V, H] the input embedding, its own or the target's.

    Raises:
        DecodeError: A weight is missing, one has no place in this layer, or the
            config asks for other arithmetic.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        embeddings: torch.Tensor,
    ) -> None:
        from transformers import LlamaConfig
        from transformers.activations import ACT2FN
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        _refuse_variants(config)
        self.embeddings = embeddings
        weights = _trunk(tensors)
        self._norms = {name: weights[f"{name}.weight"] for name in _NORMS}
        self._products = {
            name: product(weights[f"{name}.weight"], weights.get(f"{name}.bias"))
            for name in _PROJECTIONS
        }
        self._config: Any = LlamaConfig(**config)
        self._rotary: Any = LlamaRotaryEmbedding(self._config)
        self._activation: Any = ACT2FN[self._config.hidden_act]

    def fuse(self, features: torch.Tensor) -> torch.Tensor:
        """Return one feature of the target's hidden states: [..., F] to [..., H]."""
        return self._linear("fc", features)

    def projected(
        self, token_ids: torch.Tensor, features: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what attention needs of pairs.

        Args:
            token_ids: [B, T].
            features: [B, T, H].
            positions: [B, T].

        Returns:
            Queries, keys and values [B, heads, T, head dimension].
        """
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        embedded = self._norm("input_layernorm", embedding(token_ids, self.embeddings))
        pairs = torch.cat([embedded, self._norm("hidden_norm", features)], dim=-1)
        queries, keys, values = (
            self._linear(f"self_attn.{name}_proj", pairs)
            .view(*pairs.shape[:2], -1, self._config.head_dim)
            .transpose(1, 2)
            for name in "qkv"
        )
        cosine, sine = self._rotary(pairs, positions)
        queries, keys = apply_rotary_pos_emb(queries, keys, cosine, sine)
        return queries, keys, values

    def behind_attention(self, features: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Return the layer's output.

        Args:
            features: [..., H] that went in.
            mixed: [..., heads · head dimension] what attention gave.

        Returns:
            [..., H]; the feature of the next pair of a draft.
        """
        state = features + self._linear("self_attn.o_proj", mixed)
        inner = self._norm("post_attention_layernorm", state)
        gated = self._activation(self._linear("mlp.gate_proj", inner))
        return state + self._linear("mlp.down_proj", gated * self._linear("mlp.up_proj", inner))

    def head_input(self, state: torch.Tensor) -> torch.Tensor:
        """Return what the head reads: [..., H] to [..., H]."""
        return self._norm("norm", state)

    def _linear(self, name: str, values: torch.Tensor) -> torch.Tensor:
        return self._products[name](values)

    def _norm(self, name: str, values: torch.Tensor) -> torch.Tensor:
        return rms_norm(values, (values.shape[-1],), self._norms[name], self._config.rms_norm_eps)


def _trunk(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the trunk's weights, the prefix of the decoder layer removed."""
    weights = {}
    for name, tensor in tensors.items():
        prefix = next((one for one in LAYER_PREFIXES if name.startswith(one)), "")
        if name not in _NOT_TRUNK:
            weights[name.removeprefix(prefix)] = tensor
    required = {f"{name}.weight" for name in (*_PROJECTIONS, *_NORMS)}
    known = required | {f"{name}.bias" for name in _PROJECTIONS}
    if missing := sorted(required - weights.keys()):
        raise DecodeError(f"the EAGLE-3 drafter has no tensor {missing[0]}")
    if unknown := sorted(weights.keys() - known):
        raise DecodeError(
            f"the EAGLE-3 drafter has a tensor {unknown[0]}, which a plain layer has no place "
            "for: without it the drafts would be nonsense"
        )
    return weights


def _refuse_variants(config: Mapping[str, Any]) -> None:
    nested = config.get("eagle_config") or {}
    for flag in OTHER_ARITHMETIC:
        if config.get(flag) or nested.get(flag):
            raise DecodeError(f"EAGLE-3 drafters with {flag} are not decoded here; an engine may")
