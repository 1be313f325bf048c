"""The EAGLE-3 drafter: one decoder layer over the target's features.

At position p it reads the pair (embedding of token p + 1, feature of position
p) and predicts token p + 2 (EAGLE-3, 2503.01840; layout of SafeAILab/EAGLE
`eagle/model/cnets.py`). A feature is three hidden states of the target, fused
by `fc`. While drafting, where no target feature exists yet, the layer's own
output (before `norm`) stands in for it. Such entries leave the cache when the
draft ends and are made again from the target's features once verified, so
every cycle starts from what a fresh pass over the committed tokens would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import ColumnCache
from vocabtrim.decode.drafters.base import ReducedHead

FEATURE_KEY = "eagle_aux_hidden_state_layer_ids"
LAYER_PREFIXES = ("midlayer.", "layers.0.")
OTHER_ARITHMETIC = ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output")

_PROJECTIONS = tuple(
    [f"self_attn.{name}_proj" for name in "qkvo"]
    + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    + ["fc"]
)
_NORMS = ("input_layernorm", "hidden_norm", "post_attention_layernorm", "norm")
_NOT_TRUNK = frozenset({"lm_head.weight", "lm_head.bias", "embed_tokens.weight", "d2t", "t2d"})


def feature_layers(config: Mapping[str, Any], target_layers: int) -> tuple[int, ...]:
    """Return the indices of the target's `hidden_states` that a drafter reads.

    A top-level list counts inputs of layers, as `hidden_states` does; a list
    inside `eagle_config` counts outputs, one less. Without either: low, middle
    and high, as in the reference (SafeAILab/EAGLE, vLLM and SGLang agree).

    Args:
        config: The drafter's.
        target_layers: Layers of the target.
    """
    stated = config.get(FEATURE_KEY)
    if stated is not None:
        return tuple(int(index) for index in stated)
    nested = (config.get("eagle_config") or {}).get(FEATURE_KEY)
    if nested is not None:
        return tuple(int(index) + 1 for index in nested)
    return (2, target_layers // 2, target_layers - 3)


class Eagle3Drafter:
    """An EAGLE-3 drafter over a draft vocabulary.

    Args:
        config: The drafter's `config.json`.
        tensors: Its weights in the flat layout; head, embedding and maps among
            them are not looked at.
        embeddings: [V, H] the input embedding, its own or the target's.
        head: The kept rows.
        layers: Which hidden states of the target are fused.

    Raises:
        DecodeError: A weight is missing, one has no place in this layer, or the
            config asks for other arithmetic.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        embeddings: torch.Tensor,
        head: ReducedHead,
        layers: Sequence[int],
    ) -> None:
        from transformers import LlamaConfig
        from transformers.activations import ACT2FN
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        _refuse_variants(config)
        self.head, self.embeddings, self._feature_layers = head, embeddings, tuple(layers)
        self._weights = _trunk(tensors)
        self._config: Any = LlamaConfig(**config)
        self._rotary: Any = LlamaRotaryEmbedding(self._config)
        self._activation: Any = ACT2FN[self._config.hidden_act]
        self._cache = ColumnCache(1, 0)
        self._state: torch.Tensor | None = None
        self._began = False

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """Which hidden states of the target it is fed."""
        return self._feature_layers

    @property
    def cache(self) -> ColumnCache:
        """Keys and values of the committed pairs."""
        return self._cache

    def begin(self, columns: int) -> None:
        """Forget everything and make room for `columns` pairs."""
        self._cache = ColumnCache(1, columns)
        self._state, self._began = None, False

    @torch.no_grad()
    def commit(self, token_ids: Sequence[int], features: torch.Tensor | None) -> None:
        """Read the pairs that the committed tokens complete.

        Raises:
            DecodeError: Features are missing, too few or too many.
        """
        # The very first token completes no pair: nothing stands before it.
        tokens = list(token_ids) if self._began else list(token_ids[1:])
        if features is None or features.shape[0] != len(tokens):
            found = "none" if features is None else f"{features.shape[0]}"
            raise DecodeError(f"{len(tokens)} tokens need as many features, found {found}")
        self._began = True
        if tokens:
            ids = torch.tensor(tokens, device=self.embeddings.device)
            fused = self._linear("fc", features.to(self.embeddings.dtype))
            self._state = self._read(ids, fused)

    @torch.no_grad()
    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        """Return what the head reads before and after each of these drafts, [n + 1, H].

        Raises:
            DecodeError: Nothing was committed, so there is no state to start from.
        """
        states = [self._committed_state()]
        for token in torch.tensor(list(draft_ids), device=self.embeddings.device):
            states.append(self._read(token[None], states[-1][None]))
        self._cache.crop(len(draft_ids))
        return self._norm("norm", torch.stack(states))

    @torch.no_grad()
    def propose(self, length: int) -> list[int]:
        """Draft `length` tokens; the cache keeps committed pairs only.

        Raises:
            DecodeError: Nothing was committed, so there is no state to start from.
        """
        committed, state = len(self._cache), self._committed_state()
        draft = [self.head.best(self._norm("norm", state))]
        while len(draft) < length:
            state = self._read(draft[-1][None], state[None])
            draft.append(self.head.best(self._norm("norm", state)))
        self._cache.crop(len(self._cache) - committed)
        return [int(token) for token in draft]

    def _committed_state(self) -> torch.Tensor:
        if self._state is None:
            raise DecodeError("EAGLE-3 drafts from at least two committed tokens")
        return self._state

    def _read(self, token_ids: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Pass pairs of T tokens and [T, H] features; return the last state, [H]."""
        normed = self._norm("hidden_norm", features)
        embedded = self._norm("input_layernorm", embedding(token_ids, self.embeddings))
        state = features + self._attention(torch.cat([embedded, normed], dim=-1))
        inner = self._norm("post_attention_layernorm", state)
        gated = self._activation(self._linear("mlp.gate_proj", inner))
        state = state + self._linear("mlp.down_proj", gated * self._linear("mlp.up_proj", inner))
        return state[-1]

    def _attention(self, pairs: torch.Tensor) -> torch.Tensor:
        """Attend from [T, 2H] new pairs to all; add them to the cache; return [T, H]."""
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        past, count = len(self._cache), pairs.shape[0]
        positions = torch.arange(past, past + count, device=pairs.device)
        queries, keys, values = (
            self._linear(f"self_attn.{name}_proj", pairs)
            .view(count, -1, self._config.head_dim)
            .transpose(0, 1)[None]
            for name in "qkv"
        )
        cosine, sine = self._rotary(pairs, positions[None])
        queries, keys = apply_rotary_pos_emb(queries, keys, cosine, sine)
        keys, values = self._cache.update(keys, values, 0)
        self._cache.advance(count)
        columns = torch.arange(past + count, device=pairs.device)
        mask = None if count == 1 else columns <= positions[:, None]
        mixed = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)
        return self._linear("self_attn.o_proj", mixed[0].transpose(0, 1).reshape(count, -1))

    def _linear(self, name: str, values: torch.Tensor) -> torch.Tensor:
        return linear(values, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))

    def _norm(self, name: str, values: torch.Tensor) -> torch.Tensor:
        weight = self._weights[f"{name}.weight"]
        return rms_norm(values, (values.shape[-1],), weight, self._config.rms_norm_eps)


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
