"""Drafters in the forms that engines take: byte-equal, read back, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import (
    CLEAN,
    IDS,
    KEPT,
    LAYERS,
    K,
    V,
    gguf_drafter,
    in_bin,
    sharded,
    sidecar,
    specforge,
    speculators,
    trimmed,
    trimmed_eagle,
    trimmed_lm,
    whole,
)
from tests.tiny import edit, raw_tensors
from tests.tiny_gguf import read_gguf, tiny_gguf
from vocabtrim.core.errors import CheckpointError, OutputExists, PluginError
from vocabtrim.engines.base import Container, engine_named
from vocabtrim.engines.vllm import PLUGIN as VLLM
from vocabtrim.families import mtp
from vocabtrim.pipeline import export_engine
from vocabtrim.pipeline.check import check
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.export_engine import export_to_engine
from vocabtrim.pipeline.export_request import Request
from vocabtrim.pipeline.trim import trim


def config_of(directory: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((directory / "config.json").read_text())
    return found


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("name", ["SpecForge", "SafeAILab", "ModelOpt", "sharded", ".bin"])
def test_tensors_go_over_byte_for_byte(tmp_path: Path, engine: str, name: str) -> None:
    path = CLEAN[name](tmp_path / "d")
    result = export(path, engine, tmp_path / "out")
    assert (result.form, result.K, result.V) == (engine, K, V)
    assert result.command is not None
    if name != ".bin":
        assert raw_tensors(tmp_path / "out") == raw_tensors(path)
    assert config_of(tmp_path / "out")["vocab_size"] == V
    again = check(str(tmp_path / "out"), engines=[engine])
    assert not again.failed(strict=False), again.lines()


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_layers_are_stated_where_the_engine_looks(tmp_path: Path, engine: str) -> None:
    path = edit(specforge(tmp_path / "d"), config={LAYERS: [1, 3, 4]})
    export(path, engine, tmp_path / "out")
    reads = engine_named(engine).read_back(tmp_path / "out", Container.FLAT)
    assert reads.layers == (1, 3, 4)
    inner = edit(path, config={"eagle_config": {LAYERS: [0, 2, 3]}}, forget=[LAYERS])
    export(inner, engine, tmp_path / "again")
    reads = engine_named(engine).read_back(tmp_path / "again", Container.FLAT)
    assert reads.layers == (1, 3, 4)


def test_speculators_layout_stays_for_those_who_read_it(tmp_path: Path) -> None:
    path = speculators(tmp_path / "d")
    export(path, "vllm", tmp_path / "v")
    assert raw_tensors(tmp_path / "v") == raw_tensors(path)
    assert config_of(tmp_path / "v") == config_of(path)
    export(path, "sglang", tmp_path / "s")
    assert "midlayer.hidden_norm.weight" in raw_tensors(tmp_path / "s")
    assert config_of(tmp_path / "s")["architectures"] == ["LlamaForCausalLMEagle3"]
    reads = engine_named("sglang").read_back(tmp_path / "s", Container.FLAT)
    assert reads.layers == (1, 2, 4)
    assert not (tmp_path / "s" / "vocabtrim-original.json").exists()


def test_maps_of_all_ids_are_left_out(tmp_path: Path) -> None:
    path = edit(whole(tmp_path / "d"), add={"d2t": np.zeros(V, np.int64)})
    export(path, "vllm", tmp_path / "out")
    assert "d2t" not in raw_tensors(tmp_path / "out")
    assert check(str(path), engines=["vllm"]).failed(strict=False)
    assert not check(str(tmp_path / "out"), engines=["vllm"]).findings


def test_a_borrowed_head_is_said_as_each_engine_wants_it(tmp_path: Path) -> None:
    path = edit(
        specforge(tmp_path / "d"),
        drop=["lm_head.weight", "d2t", "t2d"],
        config={"draft_vocab_size": V},
    )
    export(path, "sglang", tmp_path / "s")
    assert config_of(tmp_path / "s")["draft_vocab_size"] is None
    export(path, "vllm", tmp_path / "v")
    assert config_of(tmp_path / "v")["draft_vocab_size"] == V


def test_a_list_for_drafters_without_a_head(tmp_path: Path) -> None:
    path = trimmed_eagle(tmp_path / "d")
    result = export(path, "sglang", tmp_path / "out")
    written = raw_tensors(tmp_path / "out")
    assert not {"lm_head.weight", "d2t", "t2d"} & set(written)
    assert set(raw_tensors(path)) - set(written) == {"lm_head.weight", "d2t", "t2d"}
    config = config_of(tmp_path / "out")
    assert config["architectures"] == ["LlamaForCausalLMEagle"]
    assert "draft_vocab_size" not in config
    twin = json.loads((tmp_path / "out" / "token_map.json").read_text())
    assert twin["ids"] == IDS.tolist()
    assert result.warnings[0].startswith("sglang: TP = 1")
    found = check(str(tmp_path / "out" / "token_map.pt"), engines=["sglang"])
    assert not found.findings


def test_a_sidecar_leaves_as_a_list_alone(tmp_path: Path) -> None:
    result = export(sidecar(tmp_path / "d"), "sglang", tmp_path / "out", target="T")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"token_map.pt", "token_map.json", "vocabtrim.json"}
    assert "NEXTN" in (result.command or "")


def test_a_gguf_drafter_stays_one(tmp_path: Path) -> None:
    path = gguf_drafter(tmp_path / "d")
    result = export(path, "llama.cpp", tmp_path / "out.gguf")
    assert (result.level, result.K) == ("served", K)
    ours, theirs = read_gguf(tmp_path / "out.gguf"), read_gguf(path)
    assert ours.metadata == theirs.metadata
    assert ours.types == theirs.types
    for name, rows in theirs.data.items():
        assert np.array_equal(ours.data[name], rows)


def test_a_gguf_drafter_in_parts_becomes_one_file(tmp_path: Path) -> None:
    first = gguf_drafter(tmp_path / "d", split=2)
    export(first, "llama.cpp", tmp_path / "out.gguf")
    assert set(read_gguf(tmp_path / "out.gguf").types) >= {"output.weight", "d2t", "fc.weight"}


def test_what_no_test_has_loaded_is_asked_for_by_its_risk(tmp_path: Path) -> None:
    mtp = tiny_gguf(tmp_path / "m.gguf", head="F16", ids=[1, 2], architecture="qwen35")
    with pytest.raises(PluginError, match="29143"):
        export(mtp, "llama.cpp", tmp_path / "m2.gguf")
    result = export(mtp, "llama.cpp", tmp_path / "m2.gguf", unproven=True)
    assert result.level == "by reading"


@pytest.mark.parametrize(
    ("build", "engine"),
    [
        (trimmed_lm, "sglang"),
        (trimmed_eagle, "vllm"),
        (gguf_drafter, "vllm"),
        (sidecar, "llama.cpp"),
    ],
)
def test_what_an_engine_does_not_take(tmp_path: Path, build: object, engine: str) -> None:
    path = build(tmp_path / "d")  # type: ignore[operator]
    with pytest.raises((CheckpointError, PluginError), match=engine):
        export(path, engine, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_reduced_has_no_list(tmp_path: Path) -> None:
    from vocabtrim.families import eagle

    eagle.PLUGIN.tiny_checkpoint(tmp_path / "d", vocab_size=V, hidden=32)
    with pytest.raises(CheckpointError, match="drafts over all ids"):
        export(tmp_path / "d", "sglang", tmp_path / "out")


def test_a_directory_needs_the_target_and_a_converter(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give --target"):
        export(specforge(tmp_path / "d"), "llama.cpp", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_outputs_are_not_replaced_unasked(tmp_path: Path) -> None:
    path = trimmed(tmp_path / "d")
    export(path, "vllm", tmp_path / "out")
    with pytest.raises(OutputExists):
        export(path, "vllm", tmp_path / "out")
    export(path, "vllm", tmp_path / "out", force=True)
    manifest = json.loads((tmp_path / "out" / "vocabtrim.json").read_text())
    assert manifest["kind"] == "exported drafter"
    assert manifest["facts"]["before"]["kind"] == "trimmed drafter"


def test_an_export_that_reads_back_as_another_is_not_left(tmp_path: Path) -> None:
    class Misread(type(VLLM)):  # type: ignore[misc]
        def read_back(self, output: Path, container: Container) -> object:
            read = super().read_back(output, container)
            return replace(read, ids=read.ids + 1)

    path = sharded(tmp_path / "d")
    with pytest.raises(CheckpointError, match="reads back as another drafter"):
        export_to_engine(Misread(), Request(str(path), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_targets_are_named_as_engines_know_them(tmp_path: Path) -> None:
    path = in_bin(tmp_path / "d")
    assert "vllm serve TARGET" in (export(path, "vllm", tmp_path / "a").command or "")
    base = trimmed(tmp_path / "t" / "d").parent / "its target"
    named = export(path, "vllm", tmp_path / "b", target=str(base)).command or ""
    assert str(base) in named


def test_a_directory_comes_before_a_built_in_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_bin(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(export_engine, "BUILT_IN", {"demo": lambda: Path("/the/demo")})
    named = {"demo": "/the/demo", "org/name": "org/name", "~/my demo": f"'{tmp_path}/my demo'"}
    (tmp_path / "my demo").mkdir()
    for name, written in named.items():
        result = export(path, "vllm", tmp_path / "out", target=name, force=True)
        assert f"vllm serve {written} " in (result.command or "")
    (tmp_path / "demo").mkdir()
    result = export(path, "vllm", tmp_path / "out", target="demo", force=True)
    assert "vllm serve demo " in (result.command or "")
    (tmp_path / "t.gguf").touch()
    file = gguf_drafter(tmp_path / "g")
    result = export(file, "llama.cpp", tmp_path / "o.gguf", target="~/t.gguf")
    assert f"-m {tmp_path}/t.gguf " in (result.command or "")


def test_of_several_families_one_is_exported(tmp_path: Path) -> None:
    mtp.PLUGIN.tiny_checkpoint(tmp_path / "host", vocab_size=V, hidden=32)
    edit(tmp_path / "host", config={"architectures": ["Qwen3ForCausalLM"]})
    trim(tmp_path / "host", KEPT, tmp_path / "d", family="independent")
    with pytest.raises(CheckpointError, match="say with --family"):
        export(tmp_path / "d", "vllm", tmp_path / "out")
    result = export(tmp_path / "d", "vllm", tmp_path / "out", family="independent")
    assert '"method": "draft_model"' in (result.command or "")
