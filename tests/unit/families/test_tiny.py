"""Drafters for tests: weights follow the seed, and a layer's widths fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tiny import raw_tensors
from vocabtrim.families.tiny import tiny_config, tiny_layer, write_tiny


def test_tiny_weights_follow_their_seed(tmp_path: Path) -> None:
    shapes = {"matrix": (3, 4), "norm": (4,)}
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        write_tiny(tmp_path / name, {}, shapes, seed)
    one, same, other = (raw_tensors(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert one["matrix"] != other["matrix"]
    assert np.frombuffer(one["norm"][2], np.float32).tolist() == [1.0] * 4


def test_a_layer_has_the_sizes_of_its_config() -> None:
    config = tiny_config(32, 96)
    heads, size = config["num_attention_heads"], config["head_dim"]
    shapes = tiny_layer("x.", 32, reads=64)
    assert shapes["x.self_attn.q_proj.weight"] == (heads * size, 64)
    assert shapes["x.self_attn.k_proj.weight"] == (config["num_key_value_heads"] * size, 64)
    assert shapes["x.self_attn.o_proj.weight"] == (32, heads * size)
    assert shapes["x.mlp.up_proj.weight"] == (config["intermediate_size"], 32)
    assert tiny_layer("x.", 32)["x.self_attn.q_proj.weight"] == (heads * size, 32)
