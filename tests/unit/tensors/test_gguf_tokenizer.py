"""The tokenizer of a GGUF file: splits, added tokens, and what is declared beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_tokenizer import write_tokenizer

TOKENS = ["<s>", "</s>", "<tool>", "a", "b", "ab", "1", "2", "12", "Ġ", "Ġa", "Ù", "¡", "Ù¡"]
MERGES = ["a b", "1 2", "Ġ a", "Ù ¡", "Ù¡ Ù¡"]


def _metadata(**changes: Any) -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*TOKENS, "Ù¡Ù¡"],
        "tokenizer.ggml.token_type": [3, 3, 4] + [1] * (len(TOKENS) - 2),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        **changes,
    }


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    write_tokenizer(_metadata(), tmp_path, source=tmp_path / "m.gguf", context=64)
    return Tokenizer.from_file(str(tmp_path / "tokenizer.json"))


def test_merges_are_followed_and_spaces_belong_to_the_word(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("ab a").tokens == ["ab", "Ġa"]


def test_every_digit_stands_alone_also_those_of_other_scripts(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("12").tokens == ["1", "2"]
    assert tokenizer.encode("\u0661\u0661").tokens == ["Ù¡", "Ù¡"]


def test_control_tokens_are_special_and_user_defined_ones_are_text(tokenizer: Tokenizer) -> None:
    added = tokenizer.get_added_tokens_decoder()
    assert {token_id: token.special for token_id, token in added.items()} == {
        0: True,
        1: True,
        2: False,
    }
    ids = tokenizer.encode("a</s><tool>b").ids
    assert ids == [3, 1, 2, 4]
    assert tokenizer.decode(ids) == "a<tool>b"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "a</s><tool>b"


def test_ids_are_places_in_the_list(tokenizer: Tokenizer) -> None:
    assert [tokenizer.id_to_token(i) for i in range(len(TOKENS))] == TOKENS


def test_what_is_declared_beside_it(tmp_path: Path) -> None:
    template = "{% for m in messages %}é{% endfor %}"
    write_tokenizer(
        _metadata(**{"tokenizer.chat_template": template}),
        tmp_path,
        source=tmp_path / "m.gguf",
        context=64,
    )
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config == {
        "clean_up_tokenization_spaces": False,
        "model_max_length": 64,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": template,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer.ggml.model": "llama"},
        {"tokenizer.ggml.pre": "qwen2"},
        {"tokenizer.ggml.add_bos_token": True},
        {"tokenizer.ggml.add_eos_token": True},
    ],
)
def test_another_kind_is_refused_and_nothing_written(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match="not converted") as caught:
        write_tokenizer(_metadata(**changes), tmp_path, source=Path("m.gguf"), context=64)
    assert str(caught.value).startswith("m.gguf: ")
    assert list(tmp_path.iterdir()) == []


PIECES = {  # piece: (score, type)
    "<eos>": (-1000, 3),
    "<bos>": (-1000, 3),
    "<unk>": (-1000, 2),
    "\n\n": (-1000, 4),
    "  ": (-1000, 4),
    "<tool>": (-1000, 4),
    "<0xC3>": (0, 6),
    "<0xA9>": (0, 6),
    "ab": (-1, 1),
    "bc": (0, 1),
    "abc": (-2, 1),
    "▁a": (-3, 1),
    "a": (-4, 1),
    "b": (-5, 1),
    "c": (-6, 1),
    "▁": (-7, 1),
    "\n": (-8, 1),
}


def _sentencepiece(**changes: Any) -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": list(PIECES),
        "tokenizer.ggml.scores": [float(score) for score, _ in PIECES.values()],
        "tokenizer.ggml.token_type": [kind for _, kind in PIECES.values()],
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
        **changes,
    }


@pytest.fixture
def pieces(tmp_path: Path) -> Tokenizer:
    write_tokenizer(_sentencepiece(), tmp_path, source=tmp_path / "m.gguf", context=64)
    return Tokenizer.from_file(str(tmp_path / "tokenizer.json"))


def test_the_highest_score_is_merged_first(pieces: Tokenizer) -> None:
    # bc scores higher than ab, and abc can be made of a and bc
    assert pieces.encode("abc", add_special_tokens=False).tokens == ["abc"]
    assert pieces.encode("abb", add_special_tokens=False).tokens == ["ab", "b"]
    assert pieces.encode("a abcc", add_special_tokens=False).tokens == ["a", "▁", "abc", "c"]


def test_white_space_that_the_user_defined(pieces: Tokenizer) -> None:
    tokens = pieces.encode("a  \n\n\nb", add_special_tokens=False).tokens
    assert tokens == ["a", "▁▁", "\n\n", "\n", "b"]
    assert pieces.decode(pieces.encode("a   \n b").ids) == "a   \n b"


def test_a_bos_is_added_and_bytes_stand_in(pieces: Tokenizer) -> None:
    assert pieces.encode("é<tool>").tokens == ["<bos>", "<0xC3>", "<0xA9>", "<tool>"]
    assert pieces.decode(pieces.encode("é").ids) == "é"
    assert pieces.encode("ß", add_special_tokens=False).tokens == ["<unk>"]


def test_a_space_in_front_is_refused(tmp_path: Path) -> None:
    metadata = _sentencepiece()
    del metadata["tokenizer.ggml.add_space_prefix"]  # which means that there is one
    with pytest.raises(CheckpointError, match="llama without a space in front"):
        write_tokenizer(metadata, tmp_path, source=Path("m.gguf"), context=64)
    assert list(tmp_path.iterdir()) == []
