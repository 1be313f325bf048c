"""The tokenizer of a GGUF file as `tokenizer.json`.

Two kinds are converted. Of a byte-level BPE, GGUF keeps vocabulary and merges
but names the splitting that comes before them by a keyword
(`tokenizer.ggml.pre`); llama.cpp has a regular expression for each in
`src/llama-vocab.cpp`. The keywords known here are those whose split has been
compared with the published tokenizer; an unknown one is refused, for a wrong
split gives other ids without a word. Of a SentencePiece BPE, GGUF keeps pieces
and scores: two neighbours become the piece with the highest score, so merges
are all ways to write a piece as two others, in the order of their scores. Runs
of one white space are pieces that the user defined, without a score; they come
first, longest first, as in the published tokenizer of Gemma.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from vocabtrim.core.errors import CheckpointError

# llama.cpp's LLAMA_TOKEN_TYPE_*.
_CONTROL, _USER_DEFINED = 3, 4
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_RUNS = ({_SPACE}, {"\n"}, {"\t"})

# Keywords whose text is split digit by digit, then as by GPT-2.
_DIGITS_THEN_GPT2 = ("smollm",)


def write_tokenizer(
    metadata: Mapping[str, Any], directory: Path, *, source: Path, context: int
) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` from GGUF metadata.

    Args:
        metadata: Keys and values of the GGUF file.
        directory: Where to write.
        source: The GGUF file, for messages.
        context: Positions that the model knows.

    Raises:
        CheckpointError: The tokenizer is of another kind.
    """
    tokenizer = _tokenizer(metadata, source)
    for token, kind in zip(_tokens(metadata), metadata["tokenizer.ggml.token_type"], strict=True):
        if kind == _CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    tokenizer.save(str(directory / "tokenizer.json"))
    tokens = metadata["tokenizer.ggml.tokens"]
    roles = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    config: dict[str, Any] = {
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
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


def _tokenizer(metadata: Mapping[str, Any], source: Path) -> Tokenizer:
    model, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    adds_bos = bool(metadata.get("tokenizer.ggml.add_bos_token"))
    if metadata.get("tokenizer.ggml.add_eos_token"):
        raise CheckpointError("its tokenizer adds EOS, which is not converted", path=source)
    if model == "gpt2" and split in _DIGITS_THEN_GPT2 and not adds_bos:
        return _byte_level_bpe(metadata)
    if model == "llama" and split == "default" and not _adds_space(metadata):
        return _sentencepiece_bpe(metadata, adds_bos=adds_bos)
    raise CheckpointError(
        f"its tokenizer ({model}, split {split}{', adds BOS' * adds_bos}) is not converted; there "
        f"are {', '.join(f'gpt2, split {name}' for name in _DIGITS_THEN_GPT2)} without BOS, and "
        "llama without a space in front",
        path=source,
    )


def _adds_space(metadata: Mapping[str, Any]) -> bool:
    # llama.cpp adds one where the file does not say
    return bool(metadata.get("tokenizer.ggml.add_space_prefix", True))


def _tokens(metadata: Mapping[str, Any]) -> list[str]:
    """Return the tokens as `tokenizer.json` spells them.

    llama.cpp's converter writes the pieces that the user defined as text, with
    spaces for SentencePiece's own sign.
    """
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    if metadata["tokenizer.ggml.model"] != "llama":
        return tokens
    kinds = metadata["tokenizer.ggml.token_type"]
    return [
        token.replace(" ", _SPACE) if kind == _USER_DEFINED else token
        for token, kind in zip(tokens, kinds, strict=True)
    ]


def _byte_level_bpe(metadata: Mapping[str, Any]) -> Tokenizer:
    tokens, merges = _tokens(metadata), metadata["tokenizer.ggml.merges"]
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
    return tokenizer


def _sentencepiece_bpe(metadata: Mapping[str, Any], *, adds_bos: bool) -> Tokenizer:
    tokens = _tokens(metadata)
    unknown = metadata.get("tokenizer.ggml.unknown_token_id")
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    model = models.BPE(
        vocab=vocab,
        merges=_merges(tokens, metadata["tokenizer.ggml.scores"], vocab),
        unk_token=None if unknown is None else tokens[int(unknown)],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    # no piece joins two words, and where one does its sign has been replaced by then
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    if adds_bos:
        bos = int(metadata["tokenizer.ggml.bos_token_id"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A {tokens[bos]}:1 $B:1",
            special_tokens=[(tokens[bos], bos)],
        )
    return tokenizer


def _merges(
    tokens: Sequence[str], scores: Sequence[float], vocab: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Return every pair of pieces that makes a third, first what is merged first."""
    runs, others = [], []
    for token, score in zip(tokens, scores, strict=True):
        splits = ((token[:place], token[place:]) for place in range(len(token) - 1, 0, -1))
        pairs = [(left, right) for left, right in splits if left in vocab and right in vocab]
        if set(token) in _RUNS:
            runs += pairs
        else:
            others += [(-score, pair) for pair in pairs]
    runs.sort(key=lambda pair: (-len(pair[0]), -len(pair[1])))
    others.sort(key=itemgetter(0))
    return [*runs, *(pair for _, pair in others)]
