"""Kept ids: all that end a turn, and all that a template writes inside one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chat_templates import TEMPLATES
from tests.real_tokenizers import opened
from tests.tiny_tokenizer import ADDED, tokenizer, write_tokenizer
from vocabtrim.core.counts import SpecialIds
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer


def test_eos_is_the_union_of_all_that_say_so(tmp_path: Path) -> None:
    directory = write_tokenizer(
        tmp_path, config={"eos_token": "<|endoftext|>"}, generation_config={"eos_token_id": 7}
    )
    (directory / "config.json").write_text(json.dumps({"eos_token_id": [9]}))
    made = Tokenizer.open(directory)
    # ... and the template ends turns with a token that no file names
    ends = (made.id_of("<|endoftext|>"), made.id_of("<|im_end|>"))
    assert special_ids(made).eos == (7, 9, *ends)


def test_template_ids_are_those_of_the_assistants_turn_only(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)
    assert special_ids(made) == SpecialIds(
        (made.id_of("<|im_end|>") or 0,), (made.id_of("<|im_end|>") or 0,), made.added_ids
    )


def test_without_a_template_nothing_is_in_it(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, None, eos="<|endoftext|>")
    expected = SpecialIds((made.id_of("<|endoftext|>") or 0,), (), made.added_ids)
    assert special_ids(made) == expected


def test_thinking_is_probed_for(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, TEMPLATES["qwen3"])
    found = {made.token(token_id) for token_id in special_ids(made).template}
    assert found == {"<think>", "</think>", "<|im_end|>"}


def test_a_refused_probe_adds_nothing(tmp_path: Path) -> None:
    source = TEMPLATES["llama31"].replace("m.tool_calls | length != 1", "true")
    made = tokenizer(tmp_path, source, added=(*ADDED, "<|eot_id|>"), eos="<|endoftext|>")
    assert special_ids(made).template == (made.id_of("<|eot_id|>"),)


@pytest.mark.parametrize(
    ("name", "eos", "template", "n_added"),
    [
        ("smollm2", ["<|im_end|>"], ["<|im_end|>"], 17),
        ("llama3_1", ["<|eot_id|>"], ["<|eot_id|>"], 256),
        (
            "qwen3",
            ["<|im_end|>"],
            ["<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>"],
            26,
        ),
        ("gemma3", ["<end_of_turn>"], ["<end_of_turn>"], 6415),
    ],
)
def test_published_tokenizers(name: str, eos: list[str], template: list[str], n_added: int) -> None:
    made = opened(name)
    special = special_ids(made)
    assert [made.token(token_id) for token_id in special.eos] == eos
    assert [made.token(token_id) for token_id in special.template] == template
    assert len(special.added) == n_added
    assert list(special.added) == sorted(special.added)
