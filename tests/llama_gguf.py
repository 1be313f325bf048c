"""A small Llama in GGUF, written with llama.cpp's own package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np

from tests.tiny import H, V

HEADS, KV_HEADS, LAYERS = 4, 2, 2
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_name(name: str) -> str:
    outside = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outside:
        return outside[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _interleaved(name: str, weights: np.ndarray) -> np.ndarray:
    """Reorder rows as llama.cpp's converter does on the way to GGUF."""
    heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(_gguf_name(name).split(".")[-2])
    if heads is None:
        return weights
    shape = (heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape))


def write_gguf(
    path: Path,
    weights: Mapping[str, np.ndarray],
    *,
    kind: str = "F32",
    architecture: str = "llama",
    more: Callable[[gguf.GGUFWriter], object] = lambda _: None,
    pre: str = "smollm",
    with_theta: bool = True,
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(H)
    writer.add_feed_forward_length(2 * H)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    if with_theta:
        writer.add_rope_freq_base(5000.0)
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = ["<end>", *letters, "ab", *[f"<{i}>" for i in range(V - 28)]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (V - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    more(writer)
    for name, array in weights.items():
        stored = _interleaved(name, array)
        if array.ndim > 1:
            quantised = gguf.GGMLQuantizationType[kind]
            data = gguf.quants.quantize(stored, quantised)
            writer.add_tensor(_gguf_name(name), data, raw_dtype=quantised)
        else:
            writer.add_tensor(_gguf_name(name), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
