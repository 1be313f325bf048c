"""One pass of each family's drafter in float64, read from its files, without torch.

Written from the papers and the layouts, to be compared with nothing but itself:
the same pass over a trimmed drafter must give, for every kept id, the same number
as over the full one. Norms, rotation, grouped attention and the gated MLP are
those of Llama; what a family does otherwise stands in its function.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.tiny import numbers, raw_tensors

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

TOKENS = np.array([3, 14, 15, 9, 2])


def logits(
    family: str, drafter: Path, target: Path, *, single: bool = False
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the ids that a drafter has rows for, and their logits at each position.

    Args:
        family: Which one it is of.
        drafter: Its directory; of a sidecar, that too.
        target: The target's, for what the drafter borrows.
        single: Take the last product in float32, as a matrix product.

    Returns:
        [K] ids, and [T, K] logits.
    """
    own, borrowed = _read(drafter), _read(target)
    states = STATES[family](own, borrowed, _config(drafter), _config(target))
    head = next((w[name] for w, name in _heads(own, borrowed) if name in w))
    offsets = own.get("d2t", np.zeros(head.shape[0]))
    ids = (offsets + np.arange(head.shape[0])).astype(np.int64)
    if single:
        return ids, states.astype(np.float32) @ head.astype(np.float32).T
    # a sum along one row does not depend on how many rows there are, as a matrix product may
    return ids, (states[:, None] * head[None]).sum(-1)


def _heads(own: Weights, borrowed: Weights) -> list[tuple[Weights, str]]:
    names = ("lm_head.weight", "model.embed_tokens.weight")
    return [(weights, name) for weights in (own, borrowed) for name in names]


def _independent(w: Weights, _: Weights, c: Mapping[str, Any], __: Any) -> Array:
    state = w["model.embed_tokens.weight"][TOKENS]
    for index in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{index}."
        normed = _norm(state, w[prefix + "input_layernorm.weight"], c)
        state = _layer(w, prefix, normed, state, c)
    return _norm(state, w["model.norm.weight"], c)


def _eagle(w: Weights, target: Weights, c: Mapping[str, Any], _: Any) -> Array:
    embedded = _embedding(w, target)[TOKENS]
    pair = np.concatenate([embedded, _features(c["hidden_size"], 1)], axis=-1)
    fused = pair @ w["fc.weight"].T + w["fc.bias"]
    # its only layer has no norm before attention, and nothing follows it
    return _layer(w, "layers.0.", fused, fused, c)


def _eagle3(w: Weights, target: Weights, c: Mapping[str, Any], _: Any) -> Array:
    c = c.get("transformer_layer_config", c)
    prefix = "midlayer." if "midlayer.hidden_norm.weight" in w else "layers.0."
    embedded = _embedding(w, target)[TOKENS]
    feature = _features(c["hidden_size"], 3) @ w["fc.weight"].T
    pair = np.concatenate(
        [
            _norm(embedded, w[prefix + "input_layernorm.weight"], c),
            _norm(feature, w[prefix + "hidden_norm.weight"], c),
        ],
        axis=-1,
    )
    return _norm(_layer(w, prefix, pair, feature, c), w["norm.weight"], c)


def _mtp(_: Weights, w: Weights, __: Any, c: Mapping[str, Any]) -> Array:
    c = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": c["hidden_size"] // 4, **c}
    centred = {name: value + 1 if "norm" in name else value for name, value in w.items()}
    embedded = w["model.embed_tokens.weight"][TOKENS]
    hidden = _features(c["hidden_size"], 1)
    pair = np.concatenate(
        [
            _norm(embedded, centred["mtp.pre_fc_norm_embedding.weight"], c),
            _norm(hidden, centred["mtp.pre_fc_norm_hidden.weight"], c),
        ],
        axis=-1,
    )
    state = pair @ w["mtp.fc.weight"].T
    normed = _norm(state, centred["mtp.layers.0.input_layernorm.weight"], c)
    state = _layer(centred, "mtp.layers.0.", normed, state, c)
    return _norm(state, centred["mtp.norm.weight"], c)


STATES: dict[str, Callable[..., Array]] = {
    "eagle": _eagle,
    "eagle3": _eagle3,
    "independent": _independent,
    "mtp": _mtp,
}
"""Family to what its head reads, [T, H]."""


def _layer(
    w: Weights, prefix: str, attended: Array, residual: Array, c: Mapping[str, Any]
) -> Array:
    state = residual + _attention(w, prefix + "self_attn.", attended, c)
    inner = _norm(state, w[prefix + "post_attention_layernorm.weight"], c)
    gate = inner @ w[prefix + "mlp.gate_proj.weight"].T
    up = inner @ w[prefix + "mlp.up_proj.weight"].T
    return state + (gate / (1 + np.exp(-gate)) * up) @ w[prefix + "mlp.down_proj.weight"].T


def _attention(w: Weights, prefix: str, x: Array, c: Mapping[str, Any]) -> Array:
    heads, kv_heads, size = (
        c[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    T = len(x)
    query = (x @ w[prefix + "q_proj.weight"].T).reshape(T, heads, -1)
    key = (x @ w[prefix + "k_proj.weight"].T).reshape(T, kv_heads, size)
    value = (x @ w[prefix + "v_proj.weight"].T).reshape(T, kv_heads, size)
    gate = None
    if query.shape[-1] == 2 * size:  # Qwen3-Next gates what attention gives
        query, gate = query[..., :size], query[..., size:]
    if prefix + "q_norm.weight" in w:
        query = _norm(query, w[prefix + "q_norm.weight"], c)
        key = _norm(key, w[prefix + "k_norm.weight"], c)
    query, key = _rotated(query, c), _rotated(key, c)
    key, value = (np.repeat(one, heads // kv_heads, axis=1) for one in (key, value))
    scores = np.einsum("thd,shd->hts", query, key) / size**0.5
    scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("hts,shd->thd", shares / shares.sum(-1, keepdims=True), value)
    if gate is not None:
        mixed = mixed / (1 + np.exp(-gate))
    return mixed.reshape(T, -1) @ w[prefix + "o_proj.weight"].T


def _rotated(x: Array, c: Mapping[str, Any]) -> Array:
    half = x.shape[-1] // 2
    rate = float(c.get("rope_theta", 10000.0)) ** (-np.arange(half) / half)
    angles = np.arange(len(x))[:, None, None] * rate
    low, high = x[..., :half], x[..., half:]
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([low * cosine - high * sine, high * cosine + low * sine], axis=-1)


def _norm(x: Array, weight: Array, c: Mapping[str, Any]) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + c.get("rms_norm_eps", 1e-6)) * weight


def _features(hidden: int, states: int) -> Array:
    """Return what a target would have given: [T, states · H]."""
    return np.random.default_rng(5).normal(size=(len(TOKENS), states * hidden))


def _embedding(own: Weights, target: Weights) -> Array:
    return own.get("embed_tokens.weight", target["model.embed_tokens.weight"])


def _read(directory: Path) -> dict[str, Array]:
    return {name: numbers(raw).astype(np.float64) for name, raw in raw_tensors(directory).items()}


def _config(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config
