"""A target of a few kilobytes with a tokenizer, and text that it could have written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.tiny import H, V, tiny_target
from vocabtrim.tokens.tokenizer import Tokenizer as Ours

ROW = 32


def world(directory: Path, *, vocab_size: int = V, hidden: int = H) -> Path:
    """Write a target whose tokens are the words w0, w1, …"""
    target = tiny_target(directory / "target", vocab_size=vocab_size, hidden=hidden)
    words = {f"w{one}": one for one in range(vocab_size)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.save(str(target / "tokenizer.json"))
    return target


def words(ids: list[int]) -> str:
    return " ".join(f"w{one}" for one in ids)


def write_generated(
    path: Path, target: Path, *, prompts: int = 40, length: int = 20, seed: int = 0
) -> Path:
    """Write what `vocabtrim generate` could have: runs of ascending ids, a learnable text."""
    generator = np.random.default_rng(seed)
    fingerprint = Ours.open(target).fingerprint
    lines = []
    for one in range(prompts):
        first, stride = int(generator.integers(3, V)), int(generator.integers(1, 4))
        ids = [(first + stride * place) % V for place in range(length + 4)]
        lines.append(
            {
                "id": f"p{one}",
                "domain": ("code", "math")[one % 2],
                "messages": [{"role": "user", "content": words(ids[:4])}],
                "completion": words(ids[4:]),
                "completion_ids": ids[4:],
                "finish_reason": "length",
                "model": "tiny",
                "seed": 0,
                "tokenizer": fingerprint,
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def gemma_world(directory: Path) -> Path:
    """Write a Gemma-3 target, as far from Llama as targets are here: two kinds of layer."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    target = world(directory)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=V,
        hidden_size=H,
        intermediate_size=2 * H,
        num_hidden_layers=7,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=8,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    Gemma3ForCausalLM(config).save_pretrained(target)
    return target
