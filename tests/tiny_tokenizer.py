"""A byte-level BPE tokenizer of some 270 tokens for tests: every text, and ChatML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from vocabtrim.tokens.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ADDED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "a"), ("a", "n"), ("an", "s"), ("Ċ", "Ċ"))


def backend(*, added: Sequence[str] = ADDED, special: bool = True) -> Backend:
    """Return a tokenizer of all 256 bytes, a few merges and `added`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(left + right for left, right in MERGES)]
    made = Backend(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    add = made.add_special_tokens if special else made.add_tokens
    add([AddedToken(token, special=special, normalized=False) for token in added])
    return made


def write_tokenizer(
    directory: Path,
    *,
    template: str | None = CHATML,
    config: Mapping[str, Any] | None = None,
    generation_config: Mapping[str, Any] | None = None,
    added: Sequence[str] = ADDED,
) -> Path:
    """Write the tokenizer and the files beside it; `<|im_end|>` is its EOS token."""
    directory.mkdir(parents=True, exist_ok=True)
    backend(added=added).save(str(directory / "tokenizer.json"))
    document = {"eos_token": "<|im_end|>", **(config or {})}
    if template is not None:
        document["chat_template"] = template
    (directory / "tokenizer_config.json").write_text(json.dumps(document))
    if generation_config is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation_config))
    return directory


def tokenizer(
    directory: Path,
    template: str | None = CHATML,
    *,
    added: Sequence[str] = ADDED,
    eos: str = "<|im_end|>",
) -> Tokenizer:
    """Write a tokenizer and open it."""
    return Tokenizer.open(
        write_tokenizer(directory, template=template, added=added, config={"eos_token": eos})
    )
