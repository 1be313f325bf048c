"""Configs of prediction layers, as transformers opens them for vLLM."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from tests.fake_vllm import Ranks, install

pytest.importorskip("transformers")

FIELDS = {"vocab_size": 96, "hidden_size": 8, "num_hidden_layers": 1, "draft_vocab_size": 64}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks())
    from vocabtrim.engines.vllm.mtp_config import register_configs

    register_configs()


@pytest.mark.parametrize("model_type", ["qwen3_5_mtp", "qwen3_next_mtp"])
def test_transformers_opens_one(tmp_path: Path, model_type: str) -> None:
    from transformers import AutoConfig

    text = {**FIELDS, "model_type": model_type, "architectures": ["Trimmed"], "n_predict": 1}
    (tmp_path / "config.json").write_text(json.dumps(text))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.model_type == model_type
    assert (config.draft_vocab_size, config.n_predict) == (64, 1)
    assert config.architectures == ["Trimmed"]
    # what a target's own text config has
    assert config.layer_types == ["linear_attention"]


@pytest.mark.parametrize("model_type", ["qwen3_5_mtp", "qwen3_next_mtp"])
def test_one_keeps_the_name_of_our_class(model_type: str) -> None:
    """vLLM writes the name of its own where it meets this type, and other keys with it."""
    from vocabtrim.engines.vllm.mtp_config import config_class

    config = config_class(model_type)(**FIELDS, architectures=["TrimmedQwen3NextMTP"])
    config.update({"n_predict": 2, "architectures": ["Qwen3NextMTP"]})
    assert config.architectures == ["TrimmedQwen3NextMTP"]
    assert config.n_predict == 2


def test_one_goes_over_to_another_process() -> None:
    from vocabtrim.engines.vllm.mtp_config import config_class

    made = config_class("qwen3_5_mtp")(**FIELDS)
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is type(made)
    assert again.draft_vocab_size == 64


def test_a_version_that_was_not_tested_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks(), version="0.40.0")
    from vocabtrim.engines.vllm.mtp_config import config_class

    with pytest.raises(ValueError, match=r"tested with vLLM 0\.32\.0, found 0\.40\.0"):
        config_class("qwen3_5_mtp")(**FIELDS)


def test_nothing_else_is_in_the_module() -> None:
    from vocabtrim.engines.vllm import mtp_config

    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        _ = mtp_config.other


def test_what_transformers_knows_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later transformers may have one of the names, and an older one not the target."""
    import transformers

    from vocabtrim.engines.vllm import mtp_config

    install(monkeypatch, Ranks())
    mapping = transformers.CONFIG_MAPPING
    mapping._extra_content["qwen3_5_mtp"] = transformers.LlamaConfig
    mapping._extra_content.pop("qwen3_next_mtp", None)
    monkeypatch.setattr(mtp_config, "BASES", {**mtp_config.BASES, "other_mtp": "NoConfigAtAll"})
    mtp_config.register_configs()
    assert mapping["qwen3_5_mtp"] is transformers.LlamaConfig
    assert mapping["qwen3_next_mtp"].__name__ == "TrimmedQwen3NextMtpConfig"
    assert "other_mtp" not in mapping
