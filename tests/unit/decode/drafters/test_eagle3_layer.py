"""The layer's arithmetic against the paper's, position by position."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from tests.tiny_models import H, V
from tests.tiny_pairs import EAGLE_CONFIG, eagle_tensors, plain_eagle3
from vocabtrim.decode.drafters.eagle3_layer import Eagle3Layer

T = 6


def test_parts_make_the_layer_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(2)
    tensors = {name: tensor.double() for name, tensor in eagle_tensors(3).items()}
    embeddings = torch.randn(V, H, generator=generator).double()
    features = torch.randn(T, 3 * H, generator=generator).double()
    ids = torch.arange(4, 4 + T)
    layer = Eagle3Layer(EAGLE_CONFIG, tensors, embeddings)
    fused = layer.fuse(features)
    assert torch.allclose(fused, features @ tensors["fc.weight"].T)
    queries, keys, values = layer.projected(ids[None], fused[None], torch.arange(T)[None])
    expected = plain_eagle3(tensors, EAGLE_CONFIG, embeddings[ids], fused)
    # the rotary embedding of transformers is made in float32
    assert torch.allclose(keys[0], expected[0], atol=1e-5)
    assert torch.allclose(values[0], expected[1])
    mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
    states = layer.behind_attention(fused, mixed[0].transpose(0, 1).flatten(1))
    assert torch.allclose(states, expected[2], atol=1e-5)
    scale = torch.sqrt((states * states).mean(dim=-1, keepdim=True) + EAGLE_CONFIG["rms_norm_eps"])
    assert torch.allclose(layer.head_input(states), states / scale * tensors["norm.weight"])


def test_the_prefix_of_the_layer_does_not_matter() -> None:
    one = Eagle3Layer(EAGLE_CONFIG, eagle_tensors(1), torch.zeros(V, H))
    other = Eagle3Layer(EAGLE_CONFIG, eagle_tensors(1, prefix="layers.0."), torch.zeros(V, H))
    features = torch.randn(2, 3, H)
    assert torch.equal(
        one.behind_attention(features, torch.ones(2, 3, 32)),
        other.behind_attention(features, torch.ones(2, 3, 32)),
    )
