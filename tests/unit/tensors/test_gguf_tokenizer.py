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
        "llama.context_length": 64,
        **changes,
    }


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    write_tokenizer(_metadata(), tmp_path, source=tmp_path / "m.gguf")
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
        _metadata(**{"tokenizer.chat_template": template}), tmp_path, source=tmp_path / "m.gguf"
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
        write_tokenizer(_metadata(**changes), tmp_path, source=Path("m.gguf"))
    assert str(caught.value).startswith("m.gguf: ")
    assert list(tmp_path.iterdir()) == []
