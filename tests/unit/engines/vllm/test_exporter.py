"""Reading back as vLLM reads: rows, ids, layers, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import (
    IDS,
    LAYERS,
    K,
    V,
    modelopt,
    sidecar,
    specforge,
    trimmed_eagle,
    trimmed_lm,
    whole,
)
from tests.tiny import edit, raw_tensors
from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Container
from vocabtrim.engines.vllm import PLUGIN
from vocabtrim.pipeline.export import export
from vocabtrim.tensors.checkpoint import Checkpoint


def test_a_reduced_drafter(tmp_path: Path) -> None:
    read = PLUGIN.read_back(specforge(tmp_path / "d"), Container.FLAT)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()
    assert (read.rows, read.layers) == (K, None)


def test_the_outer_list_of_layers_wins_and_the_inner_is_not_shifted(tmp_path: Path) -> None:
    path = modelopt(tmp_path / "d")
    assert PLUGIN.read_back(path, Container.FLAT).layers == (1, 3, 4)
    edit(path, config={LAYERS: [2, 4, 5]})
    assert PLUGIN.read_back(path, Container.FLAT).layers == (2, 4, 5)


def test_all_rows_have_no_map(tmp_path: Path) -> None:
    path = whole(tmp_path / "d")
    assert PLUGIN.read_back(path, Container.FLAT).ids is None
    edit(path, add={"d2t": np.zeros(V, np.int64)})
    with pytest.raises(CheckpointError, match="vLLM refuses a d2t beside a head of all 256 rows"):
        PLUGIN.read_back(path, Container.FLAT)


def test_a_head_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = edit(specforge(tmp_path / "d"), config={"draft_vocab_size": 2 * K})
    with pytest.raises(CheckpointError, match="64 rows, its config says 128"):
        PLUGIN.read_back(path, Container.FLAT)


def test_the_command_serves_both() -> None:
    words = shlex.split(PLUGIN.command(Path("out"), "org/t", PLUGIN.cells[0]))
    assert words[:3] == ["vllm", "serve", "org/t"]
    assert json.loads(words[-1])["model"] == "out"
    assert json.loads(words[-1])["method"] == "eagle3"


def draft_of(command: str | None) -> dict[str, object]:
    found: dict[str, object] = json.loads(shlex.split(command or "")[-1])
    return found


def test_a_sidecar_becomes_the_config_that_vllm_makes_of_its_target(tmp_path: Path) -> None:
    path = sidecar(tmp_path / "d")
    result = export(path, "vllm", tmp_path / "out", target="org/t")
    made, host = Checkpoint.open(tmp_path / "out").config, Checkpoint.open(tmp_path / "host").config
    named = {"architectures": ["TrimmedQwen3NextMTP"], "model_type": "qwen3_next_mtp"}
    added = {"draft_vocab_size": K, "vocabtrim": Checkpoint.open(path).config["vocabtrim"]}
    assert made == {**host, **named, **added}
    assert raw_tensors(tmp_path / "out") == raw_tensors(path)
    assert draft_of(result.command) == {
        "method": "mtp",
        "model": str(tmp_path / "out"),
        "num_speculative_tokens": 3,
        "use_local_argmax_reduction": True,
    }
    assert "plug-in" in result.warnings[0]
    # an export is a sidecar still: it can be exported, and trimmed, again
    export(tmp_path / "out", "vllm", tmp_path / "again")
    assert Checkpoint.open(tmp_path / "again").config == made


def test_how_many_tokens_a_target_predicts_is_said_as_vllm_says_it(tmp_path: Path) -> None:
    from vocabtrim.tensors.mtp_sidecar import REMEMBERED, TARGET_CONFIG

    path = sidecar(tmp_path / "d")
    remembered = dict(Checkpoint.open(path).config[REMEMBERED])
    for model_type, name in (("qwen3_5_text", "Qwen3_5MTP"), ("qwen3_5_moe", "Qwen3_5MoeMTP")):
        text = {"model_type": model_type, "mtp_num_hidden_layers": 1, "hidden_size": 32}
        edit(path, config={REMEMBERED: remembered | {TARGET_CONFIG: text}})
        config = PLUGIN.config(Checkpoint.open(path).config, Container.FLAT, owns_head=True)
        assert config["architectures"] == [f"Trimmed{name}"]
        assert (config["model_type"], config["n_predict"]) == ("qwen3_5_mtp", 1)


def test_a_target_that_the_plug_in_does_not_know_is_refused(tmp_path: Path) -> None:
    path = sidecar(tmp_path / "d")
    remembered = dict(Checkpoint.open(path).config["vocabtrim"])
    remembered["target_config"] = {"model_type": "deepseek_v3"}
    edit(path, config={"vocabtrim": remembered})
    with pytest.raises(
        CheckpointError, match=r"targets of the type 'deepseek_v3'; it has for qwen"
    ):
        export(path, "vllm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_lm_goes_over_under_its_trimmed_name(tmp_path: Path) -> None:
    path = trimmed_lm(tmp_path / "d")
    result = export(path, "vllm", tmp_path / "out", target="org/t")
    assert raw_tensors(tmp_path / "out") == raw_tensors(path)
    assert Checkpoint.open(tmp_path / "out").config["architectures"] == ["TrimmedLlamaForCausalLM"]
    draft = draft_of(result.command)
    assert (draft["method"], draft["use_local_argmax_reduction"]) == ("draft_model", True)


def test_an_untrimmed_lm_is_asked_for_whole_rows(tmp_path: Path) -> None:
    """Not each of vLLM's classes can be asked for the best logit alone."""
    trimmed_lm(tmp_path / "d")
    result = export(tmp_path / "lm", "vllm", tmp_path / "out")
    assert "use_local_argmax_reduction" not in draft_of(result.command)


def test_a_class_that_the_plug_in_does_not_know_is_refused(tmp_path: Path) -> None:
    path = edit(trimmed_lm(tmp_path / "d"), config={"architectures": ["TrimmedPhiForCausalLM"]})
    with pytest.raises(CheckpointError, match=r"TrimmedPhiForCausalLM; it has for .*Qwen3"):
        export(path, "vllm", tmp_path / "out")


def test_eagle_1_has_no_bias_in_vllm(tmp_path: Path) -> None:
    path = trimmed_eagle(tmp_path / "d")
    with pytest.raises(CheckpointError, match=r"vllm has no place for its fc\.bias"):
        export(path, "vllm", tmp_path / "out")
    edit(path, drop=["fc.bias"], config={"bias": False})
    result = export(path, "vllm", tmp_path / "out", target="org/t")
    assert draft_of(result.command)["method"] == "eagle"


def test_a_whole_target_is_not_copied(tmp_path: Path) -> None:
    """One that is no ordinary LM besides: such a one, vLLM could also draft with."""
    sidecar(tmp_path / "d")
    host = edit(tmp_path / "host", config={"architectures": ["Qwen3NextMTP"]})
    with pytest.raises(CheckpointError, match="which vllm serves as it is: trim it first"):
        export(host, "vllm", tmp_path / "out")
