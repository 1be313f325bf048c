from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, Qwen3NextConfig
from transformers.utils import logging

from tests.tiny import tiny_eagle3, tiny_lm, tiny_target
from tests.tiny_models import KINDS, tiny_model
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.model import check_positional, context_length, eos_ids, load_model


def test_a_checkpoint_is_loaded_as_asked(tmp_path: Path) -> None:
    model = load_model(tiny_target(tmp_path), "bfloat16")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert context_length(model) == 512
    assert eos_ids(model) == (2,)
    assert load_model(tmp_path).dtype == torch.float32


def test_progress_bars_are_as_before(tmp_path: Path) -> None:
    assert logging.is_progress_bar_enabled()
    load_model(tiny_lm(tmp_path))
    assert logging.is_progress_bar_enabled()


def test_the_generation_config_decides_what_ends_a_text() -> None:
    model = tiny_model()
    model.generation_config.eos_token_id = [7, 5, 7]
    assert eos_ids(model) == (5, 7)
    model.generation_config.eos_token_id = None
    assert eos_ids(model) == (2,)
    model.config.eos_token_id = None
    assert eos_ids(model) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_full_and_sliding_layers_are_taken(kind: str) -> None:
    check_positional(tiny_model(kind).config)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (Qwen3NextConfig(num_hidden_layers=4), "layer 0 is of type linear_attention"),
        (LlamaConfig(attention_chunk_size=8), "chunked_attention"),
        (
            LlamaConfig(num_hidden_layers=2, layer_types=["full_attention", "chunked_attention"]),
            "layer 1 is of type chunked_attention",
        ),
    ],
)
def test_a_cache_that_cannot_be_cropped_is_named(config: object, named: str) -> None:
    with pytest.raises(DecodeError, match=named):
        check_positional(config)


def test_a_drafter_is_no_target(tmp_path: Path) -> None:
    # transformers would fill the missing layers with random numbers and a warning
    with pytest.raises(DecodeError, match=r"no complete causal LM: it has no \S+"):
        load_model(tiny_eagle3(tmp_path))


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="dtype must be one of float32, bfloat16, float16"):
        load_model(tmp_path, "int3")
    with pytest.raises(DecodeError, match="cannot load it as a causal LM"):
        load_model(tmp_path / "nothing")
    broken = tiny_target(tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text()) | {"model_type": "no-such"}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(DecodeError, match="cannot load it") as caught:
        load_model(broken)
    assert "\n" not in str(caught.value)
    cut = tiny_target(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(DecodeError, match="cannot load it"):
        load_model(cut.parent)
