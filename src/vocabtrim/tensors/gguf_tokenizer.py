"""The tokenizer of a GGUF file as `tokenizer.json`.

GGUF keeps vocabulary and merges of a byte-level BPE, but names the splitting
that comes before them by a keyword (`tokenizer.ggml.pre`); llama.cpp has a
regular expression for each in `src/llama-vocab.cpp`. The keywords known here are
those whose split has been compared with the published tokenizer; an unknown one
is refused, for a wrong split gives other ids without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# llama.cpp's LLAMA_TOKEN_TYPE_*.
_CONTROL, _USER_DEFINED = 3, 4

# Keywords whose text is split digit by digit, then as by GPT-2.
_DIGITS_THEN_GPT2 = ("smollm",)


def write_tokenizer(metadata: Mapping[str, Any], directory: Path, *, source: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` from GGUF metadata.

    Args:
        metadata: Keys and values of the GGUF file.
        directory: Where to write.
        source: The GGUF file, for messages.

    Raises:
        CheckpointError: The tokenizer is of another kind.
    """
    model, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if model != "gpt2" or split not in _DIGITS_THEN_GPT2:
        raise CheckpointError(
            f"its tokenizer ({model}, split {split}) is not converted; "
            f"there are {', '.join(f'gpt2, split {name}' for name in _DIGITS_THEN_GPT2)}",
            path=source,
        )
    if metadata.get("tokenizer.ggml.add_bos_token") or metadata.get("tokenizer.ggml.add_eos_token"):
        raise CheckpointError("its tokenizer adds BOS or EOS, which is not converted", path=source)
    _byte_level_bpe(metadata).save(str(directory / "tokenizer.json"))
    tokens = metadata["tokenizer.ggml.tokens"]
    roles = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    config: dict[str, Any] = {
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(metadata["llama.context_length"]),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for role, key in roles.items():
        token_id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is not None:
            config[role] = tokens[int(token_id)]
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata["tokenizer.chat_template"]
    (directory / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _byte_level_bpe(metadata: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges: list[str] = metadata["tokenizer.ggml.merges"]
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True):
        if kind == _CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer
