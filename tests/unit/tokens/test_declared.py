"""The files beside a tokenizer: each read where it is there, none needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vocabtrim.core.errors import TokenizerError
from vocabtrim.tokens.declared import Declared, read_declared


def put(directory: Path, **files: Any) -> Path:
    """Write `name: document` pairs as JSON; `chat_template` as Jinja text."""
    for name, document in files.items():
        if name == "jinja":
            (directory / "chat_template.jinja").write_text(document, encoding="utf-8")
        else:
            (directory / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return directory


def test_nothing_beside_it_declares_nothing(tmp_path: Path) -> None:
    assert read_declared(tmp_path) == Declared()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config": {"eos_token_id": [7, 3]}}, {"generation_config.json": (7, 3)}),
        ({"generation_config": {"eos_token_id": 0}}, {"generation_config.json": (0,)}),
        ({"config": {"eos_token_id": 7}}, {"config.json": (7,)}),
        ({"config": {"text_config": {"eos_token_id": [1, 106]}}}, {"config.json": (1, 106)}),
        ({"config": {"eos_token_id": None}}, {}),
        (
            {"generation_config": {"eos_token_id": [1, True, "2"]}, "config": {"eos_token_id": 5}},
            {"generation_config.json": (1,), "config.json": (5,)},
        ),
    ],
)
def test_eos_ids_of_every_file(
    tmp_path: Path, files: dict[str, Any], expected: dict[str, tuple[int, ...]]
) -> None:
    assert read_declared(put(tmp_path, **files)).eos_ids == expected


def test_special_tokens_are_text_or_the_fields_of_a_token(tmp_path: Path) -> None:
    config = {
        "eos_token": {"content": "</s>", "lstrip": False},
        "bos_token": None,
        "image_token": "<image>",
        "add_bos_token": True,
        "model_max_length": 5,
    }
    put(tmp_path, tokenizer_config=config, special_tokens_map={"eos_token": "x", "pad_token": "p"})
    declared = read_declared(tmp_path)
    assert declared.special_tokens == {
        "eos_token": "</s>",
        "image_token": "<image>",
        "pad_token": "p",
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"jinja": "J", "tokenizer_config": {"chat_template": "C"}}, "J"),
        (
            {"tokenizer_config": {"chat_template": "C"}, "chat_template": {"chat_template": "P"}},
            "C",
        ),
        ({"tokenizer_config": {}, "chat_template": {"chat_template": "P"}}, "P"),
        (
            {
                "tokenizer_config": {
                    "chat_template": [
                        {"name": "tool_use", "template": "T"},
                        {"name": "default", "template": "D"},
                    ]
                }
            },
            "D",
        ),
        ({"tokenizer_config": {"chat_template": [{"name": "rag", "template": "R"}]}}, "R"),
        ({"tokenizer_config": {"chat_template": []}}, None),
    ],
)
def test_the_template_that_transformers_would_take(
    tmp_path: Path, files: dict[str, Any], expected: str | None
) -> None:
    assert read_declared(put(tmp_path, **files)).chat_template == expected


def test_added_tokens_by_id(tmp_path: Path) -> None:
    put(tmp_path, tokenizer_config={"added_tokens_decoder": {"7": {"content": "<x>"}}})
    assert read_declared(tmp_path).added_tokens == {7: {"content": "<x>"}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer_config.json", "{", "cannot be read as JSON"),
        ("generation_config.json", "[]", "must hold a JSON object, found list"),
        ("config.json", "\xff", "cannot be read as JSON"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "added_tokens_decoder"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"1": {}}}', "added_tokens_decoder"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "added_tokens_decoder"),
        ("chat_template.jinja", "\xff", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(TokenizerError, match=f"{name}.*{message}"):
        read_declared(tmp_path)
