"""Reading back as SGLang reads: its class, null for the target's head, layers by output."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.clean_drafters import IDS, KEPT, K, modelopt, safeailab, specforge
from tests.tiny import edit
from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Container
from vocabtrim.engines.sglang import ID_LIST_FILE, PLUGIN
from vocabtrim.tensors.id_writer import write_ids


def test_a_reduced_drafter(tmp_path: Path) -> None:
    read = PLUGIN.read_back(specforge(tmp_path / "d"), Container.FLAT)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()
    assert (read.rows, read.layers) == (K, None)


def test_layers_are_counted_by_outputs(tmp_path: Path) -> None:
    assert PLUGIN.read_back(modelopt(tmp_path / "d"), Container.FLAT).layers == (2, 4, 5)
    edit(tmp_path / "d", config={"eagle_config": {}}, forget=[])
    assert PLUGIN.read_back(tmp_path / "d", Container.FLAT).layers is None


def test_its_class_and_key_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="LlamaForCausalLMEagle3 only"):
        PLUGIN.read_back(safeailab(tmp_path / "a"), Container.FLAT)
    path = edit(specforge(tmp_path / "b"), forget=["draft_vocab_size"])
    with pytest.raises(CheckpointError, match="asks for draft_vocab_size"):
        PLUGIN.read_back(path, Container.FLAT)


@pytest.mark.parametrize("drop", [True, False])
def test_null_means_the_targets_head_and_nothing_else_does(tmp_path: Path, *, drop: bool) -> None:
    path = specforge(tmp_path / "d")
    if drop:
        edit(path, drop=["lm_head.weight"])
    else:
        edit(path, config={"draft_vocab_size": None})
    with pytest.raises(CheckpointError, match="where draft_vocab_size is null, and only there"):
        PLUGIN.read_back(path, Container.FLAT)


def test_configs_are_put_under_its_class() -> None:
    config = {"architectures": ["LlamaForCausalLM"], "draft_vocab_size": 9}
    own = PLUGIN.config(config, Container.FLAT, owns_head=True)
    assert own["architectures"] == ["LlamaForCausalLMEagle3"]
    assert own["draft_vocab_size"] == 9
    assert PLUGIN.config(config, Container.FLAT, owns_head=False)["draft_vocab_size"] is None
    for name in ("LlamaForCausalLM", "LlamaForCausalLMEagle"):
        found = PLUGIN.config({"architectures": [name]}, Container.ID_LIST, owns_head=False)
        assert found["architectures"] == ["LlamaForCausalLMEagle"]


def test_a_list_is_read_as_it_stands(tmp_path: Path) -> None:
    write_ids(tmp_path / ID_LIST_FILE, KEPT, "ids-pt")
    read = PLUGIN.read_back(tmp_path, Container.ID_LIST)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()


def test_the_commands_differ_by_family() -> None:
    by_family = {
        cell.family: shlex.split(PLUGIN.command(Path("out"), "T", cell)) for cell in PLUGIN.cells
    }
    assert "EAGLE3" in by_family["eagle3"]
    assert "--speculative-token-map" not in by_family["eagle3"]
    assert "--speculative-draft-model-path" in by_family["eagle"]
    assert "--speculative-draft-model-path" not in by_family["mtp"]
    assert "NEXTN" in by_family["mtp"]
    assert by_family["mtp"][-1] == by_family["eagle"][-1] == "out/token_map.pt"
