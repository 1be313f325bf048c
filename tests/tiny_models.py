"""`transformers` models of a few thousand random weights, for cache arithmetic.

Random weights prove nothing about acceptance, but everything about positions,
masks and caches: a token that is seen or missed changes every logit. The
initial range is large, so that greedy text does not settle on one id.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

V, H = 96, 32
WINDOW = 8
KINDS = ("llama", "gemma3", "mistral")

_SHAPE: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": H,
    "intermediate_size": 2 * H,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def tiny_model(kind: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """Return a float32 causal LM; "gemma3" and "mistral" slide over 8 tokens."""
    torch.manual_seed(seed)
    shape = _SHAPE | changes
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape)).eval()
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(sliding_window=WINDOW, **shape)).eval()
    kinds = ["sliding_attention", "full_attention"] * (shape["num_hidden_layers"] // 2)
    config = Gemma3TextConfig(
        sliding_window=WINDOW, layer_types=kinds, query_pre_attn_scalar=8, **shape
    )
    return Gemma3ForCausalLM(config).eval()


def random_ids(count: int, *, seed: int = 0) -> list[int]:
    """Return ids that are no special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [int(one) for one in torch.randint(3, V, (count,), generator=generator)]


def reference_greedy(model: Any, prompt_ids: list[int], max_new_tokens: int) -> list[int]:
    """Return what `generate(do_sample=False)` emits."""
    ids = torch.tensor([prompt_ids])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_new_tokens,
    )
    return [int(one) for one in out[0, len(prompt_ids) :]]


WORDS = ("red", "green", "blue", "one", "two", "three")

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('only users speak') }}{% endif %}"
    "<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_tokenizer(directory: Path, *, chat: bool) -> Path:
    """Write a tokenizer of V words that puts a BOS before raw text."""
    directory.mkdir(parents=True, exist_ok=True)
    special = ["<unk>", "<bos>", "<eos>", "<user>", "<assistant>", "<end>"]
    names = [*special, *WORDS, *(f"w{index}" for index in range(V - len(special) - len(WORDS)))]
    backend = Tokenizer(
        models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    backend.add_special_tokens(special)
    backend.save(str(directory / "tokenizer.json"))
    config: dict[str, Any] = {"eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    if chat:
        config["chat_template"] = CHAT_TEMPLATE
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def write_target(
    directory: Path, *, kind: str = "llama", chat: bool = True, **changes: Any
) -> Path:
    """Write a random model with its tokenizer, as a target's directory."""
    tiny_model(kind, **changes).save_pretrained(directory)
    return write_tokenizer(directory, chat=chat)
