"""Configs say the same in both layouts; what one cannot say is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_eagle3, tiny_speculators
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.speculators_config import flat_config, speculators_config


def config_of(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config


def nested(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "verifier": "org/target",
        "verifier_architectures": ["LlamaForCausalLM"],
        "tokens": 5,
        "layers": (1, 2, 4),
    }
    return speculators_config(config, **given | changes)


def test_flat_says_what_speculators_said(tmp_path: Path) -> None:
    config = config_of(tiny_speculators(tmp_path / "s", ids=range(0, 96, 3)))
    flat = flat_config(config)
    assert flat["architectures"] == ["LlamaForCausalLMEagle3"]
    assert (flat["draft_vocab_size"], flat["vocab_size"], flat["hidden_size"]) == (32, 96, 32)
    assert flat["eagle_aux_hidden_state_layer_ids"] == [1, 2, 4]
    assert flat["model_type"] == "llama"
    assert flat["dtype"] == "float32"
    assert "norm_before_residual" not in flat
    assert "target_hidden_size" not in flat
    assert not {"speculators_config", "transformer_layer_config", "auto_map"} & flat.keys()


def test_switches_that_are_on_are_carried(tmp_path: Path) -> None:
    config = config_of(tiny_speculators(tmp_path / "s")) | {
        "norm_before_residual": True,
        "target_hidden_size": 64,
    }
    flat = flat_config(config)
    assert (flat["norm_before_residual"], flat["target_hidden_size"]) == (True, 64)
    back = nested(flat)
    assert back["norm_before_residual"] is True
    assert back["norm_output"] is False


def test_speculators_says_what_flat_said(tmp_path: Path) -> None:
    config = config_of(tiny_eagle3(tmp_path / "f", ids=range(0, 96, 3)))
    made = nested(config)
    layer = made["transformer_layer_config"]
    assert made["architectures"] == ["Eagle3Speculator"]
    assert made["speculators_model_type"] == "eagle3"
    assert (made["draft_vocab_size"], layer["vocab_size"]) == (32, 96)
    assert made["eagle_aux_hidden_state_layer_ids"] == [1, 2, 4]
    assert made["speculators_config"]["verifier"] == {
        "architectures": ["LlamaForCausalLM"],
        "name_or_path": "org/target",
    }
    assert made["speculators_config"]["proposal_methods"][0]["speculative_tokens"] == 5
    for key in ("intermediate_size", "num_attention_heads", "rope_theta", "head_dim"):
        assert layer[key] == config[key]
    assert not {"architectures", "draft_vocab_size"} & layer.keys()


def test_there_and_back_keeps_every_value(tmp_path: Path) -> None:
    config = config_of(tiny_speculators(tmp_path / "s"))
    back = nested(flat_config(config))
    for key, value in config.items():
        if key not in ("architectures", "auto_map", "target_hidden_size", "speculators_config"):
            assert back[key] == value, key
    assert nested(flat_config(back)) == back


def test_a_flat_config_that_states_no_k_means_all(tmp_path: Path) -> None:
    config = config_of(tiny_eagle3(tmp_path / "f"))
    for stated in ({}, {"draft_vocab_size": None}):
        made = nested({k: v for k, v in config.items() if k != "draft_vocab_size"} | stated)
        assert made["draft_vocab_size"] == 96


def test_switches_of_modelopt_are_understood_or_refused(tmp_path: Path) -> None:
    config = config_of(tiny_eagle3(tmp_path / "f"))
    usual = {"use_last_layernorm": True, "use_mtp_layernorm": False, "norm_before_fc": True}
    assert nested(config | {"eagle_config": usual})["norm_before_fc"] is True
    with pytest.raises(CheckpointError, match="sets use_mtp_layernorm to True, and speculators'"):
        nested(config | {"eagle_config": {"use_mtp_layernorm": True}})
