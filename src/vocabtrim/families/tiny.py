"""Drafters of a few kilobytes, for tests: random weights in a family's own layout.

Each family says how one of its drafters is named and shaped; sizes that follow from
one another, and the layer of a Llama that most of them have, are here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from vocabtrim.tensors.writer import CheckpointWriter

HEADS, KV_HEADS = 4, 2


def tiny_config(hidden: int, vocab_size: int) -> dict[str, Any]:
    """Return the config of a Llama of one layer and width `hidden`."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "head_dim": hidden // HEADS,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 512,
        "num_attention_heads": HEADS,
        "num_hidden_layers": 1,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": vocab_size,
    }


def tiny_layer(prefix: str, hidden: int, *, reads: int | None = None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of such a model's layer, its first norm left out.

    Args:
        prefix: In front of every name.
        hidden: H.
        reads: Width of what its attention reads; None means H.
    """
    head_dim, inner, inputs = hidden // HEADS, 2 * hidden, hidden if reads is None else reads
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (HEADS * head_dim, inputs),
        "self_attn.k_proj": (KV_HEADS * head_dim, inputs),
        "self_attn.v_proj": (KV_HEADS * head_dim, inputs),
        "self_attn.o_proj": (hidden, HEADS * head_dim),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "post_attention_layernorm": (hidden,),
    }
    return {f"{prefix}{name}.weight": shape for name, shape in shapes.items()}


def write_tiny(
    directory: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], seed: int
) -> None:
    """Write a checkpoint of random float32 weights; norms (vectors) are ones.

    The scale 0.2 spreads the logits of a tiny model far enough for its greedy
    choices to differ from position to position.
    """
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    writer = CheckpointWriter()
    for name, shape in shapes.items():
        values = generator.normal(0.0, 0.2, shape) if len(shape) > 1 else np.ones(shape)
        writer.add_array(name, values.astype(np.float32))
    writer.write(directory / WEIGHTS_FILE)
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
