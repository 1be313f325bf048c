"""What `export` writes is served by vLLM and llama.cpp, and read by SGLang's own code."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.engines.llama_cpp import require
from tests.engines.test_eagle3_readers import _captured_by_sglang, _sglang, taken
from tests.engines.test_llama_cpp import answers
from tests.engines.test_vllm import FLOOR, decoded
from tests.tiny import edit, numbers, raw_tensors, tiny_eagle3, tiny_speculators, tiny_target
from tools.engines import llama_source, vllm_python
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families import eagle
from vocabtrim.pipeline.check import check
from vocabtrim.pipeline.convert import convert
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.built_in import demo_drafter, demo_target
from vocabtrim.tensors.eagle3_layout import Layout
from vocabtrim.tokens.tokenizer import fingerprint_of

pytestmark = pytest.mark.engine

V = 96
IDS = list(range(1, V, 3))
LAYERS = [1, 2, 4]


@pytest.fixture(scope="module")
def trimmed(demo_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo drafter over ids that are not the lowest."""
    require("llama.cpp", "vllm")
    ids = np.unique(np.concatenate([np.arange(30, 3000), np.arange(3000, 49_152, 997)]))
    vocab = DraftVocab(ids[:2048], 49_152, fingerprint_of(demo_target()))
    out = tmp_path_factory.mktemp("trimmed") / "drafter"
    trim(demo_drafter("eagle3"), vocab, out, target=demo_target())
    return out


@pytest.fixture(scope="module")
def alone(demo_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the target says by itself, in vLLM."""
    texts: list[str] = decoded(None, tmp_path_factory.mktemp("alone") / "log")["texts"]
    return texts


@pytest.mark.parametrize("layout", list(Layout))
def test_vllm_serves_an_export(
    trimmed: Path, alone: list[str], tmp_path: Path, layout: Layout
) -> None:
    source = trimmed
    if layout is Layout.SPECULATORS:
        source = tmp_path / "speculators"
        convert(trimmed, layout, source, target=demo_target(), verifier=str(demo_target()))
    result = export(source, "vllm", tmp_path / "out", target="demo")
    assert result.level == "served"
    draft = json.loads(shlex.split(result.command or "")[-1])
    assert draft["model"] == str(tmp_path / "out")
    found = decoded(tmp_path / "out", tmp_path / "log")
    assert found["texts"] == alone
    assert found["accepted"] > FLOOR * found["drafted"] > 0


def test_vllm_refuses_what_check_says_and_takes_what_export_makes_of_it(
    demo_cache: Path, tmp_path: Path
) -> None:
    drafter = tmp_path / "d"
    drafter.mkdir()
    for file in demo_drafter("eagle3").iterdir():
        (drafter / file.name).write_bytes(file.read_bytes())
    edit(drafter, add={"d2t": np.zeros(49_152, np.int64)})
    (found,) = check(str(drafter), engines=["vllm"]).findings
    assert found.name == "map-not-needed"
    with pytest.raises(AssertionError):
        decoded(drafter, tmp_path / "log")
    # far from the log's end, where the processes above the one that failed say so too
    assert "draft_id_to_target_id" in (tmp_path / "log").read_text(errors="replace")
    export(drafter, "vllm", tmp_path / "out")
    assert "d2t" not in raw_tensors(tmp_path / "out")


@pytest.mark.parametrize("layout", list(Layout))
def test_llama_cpp_serves_an_export(trimmed: Path, tmp_path: Path, layout: Layout) -> None:
    source = trimmed
    if layout is Layout.SPECULATORS:
        source = tmp_path / "speculators"
        convert(trimmed, layout, source, target=demo_target(), verifier=str(demo_target()))
    converter = shlex.join([str(vllm_python()), str(llama_source() / "convert_hf_to_gguf.py")])
    out = tmp_path / "out.gguf"
    result = export(source, "llama.cpp", out, target="demo", converter=converter)
    assert (result.level, result.K) == ("served", 2048)
    drafted, plain = answers(out, tmp_path / "log"), answers(None, tmp_path / "plain.log")
    assert [one.text[:40] for one in drafted] == [one.text[:40] for one in plain]
    assert sum(one.accepted for one in drafted) > FLOOR * sum(one.drafted for one in drafted)
    again = export(out, "llama.cpp", tmp_path / "again.gguf")
    assert again.K == 2048


def test_sglang_reads_ids_and_layers_of_an_export(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    export(tiny_speculators(tmp_path / "s", ids=IDS), "sglang", tmp_path / "out")
    assert _captured_by_sglang(tmp_path / "out") == LAYERS
    load = taken(
        _sglang("models/llama_eagle3.py"), "load_weights", torch=torch, default_weight_loader=None
    )
    drafter = SimpleNamespace(named_parameters=dict, hot_token_id=None)
    tensors = raw_tensors(tmp_path / "out")
    load(drafter, [(n, torch.from_numpy(numbers(r).copy())) for n, r in tensors.items()])
    assert drafter.hot_token_id.tolist() == IDS


def test_sglang_takes_the_class_and_the_head_of_an_export(tmp_path: Path) -> None:
    export(tiny_eagle3(tmp_path / "d"), "sglang", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    source = _sglang("models/llama_eagle3.py").read_text(encoding="utf-8")
    assert f"EntryClass = [{config['architectures'][0]}]" in source
    assert "if config.draft_vocab_size is None:" in source
    assert config["draft_vocab_size"] is None


@pytest.mark.parametrize("family", ["eagle", "mtp"])
def test_sglang_loads_the_list_of_an_export(tmp_path: Path, family: str) -> None:
    import os

    torch = pytest.importorskip("torch")
    from vocabtrim.families import mtp

    plugin = eagle.PLUGIN if family == "eagle" else mtp.PLUGIN
    plugin.tiny_checkpoint(tmp_path / "full", vocab_size=V, hidden=32)
    target = tiny_target(tmp_path / "target", vocab_size=V) if family == "eagle" else None
    kept = DraftVocab(np.array(IDS), V)
    trim(tmp_path / "full", kept, tmp_path / "less", target=target, family=family)
    export(tmp_path / "less", "sglang", tmp_path / "out")
    load = taken(_sglang("speculative/spec_utils.py"), "load_token_map", torch=torch, os=os)
    assert load(str(tmp_path / "out" / "token_map.pt")).tolist() == IDS
    if family == "eagle":
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        known = _sglang("models/llama_eagle.py").read_text(encoding="utf-8")
        assert f"EntryClass = [{config['architectures'][0]}]" in known
