"""What we write is read by the code that will read it: speculators, vLLM and SGLang.

speculators and vLLM run in the environment that `make engines` builds. SGLang does
not import there, so the functions that read a drafter are taken out of its source
and run on stand-ins for what surrounds them. The drafters fuse layers that are
nobody's default, so that no reader is right by chance.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.engines.plugged import in_engine, there
from tests.tiny import V, numbers, raw_tensors, tiny_eagle3, tiny_speculators, tiny_target
from tools.engines import package_source, vllm_python
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.convert import convert
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.eagle3_layout import Counting, Layout
from vocabtrim.tensors.id_writer import write_ids

pytestmark = pytest.mark.engine

IDS = list(range(1, V, 3))
KEPT = DraftVocab(np.array(IDS[::2]), V)
LAYERS = [1, 2, 4]


def taken(source: Path, name: str, **surroundings: Any) -> Any:
    """Return one function of a source file, compiled without the rest of the file."""
    for node in ast.walk(ast.parse(there(source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.decorator_list = []
            future = ast.parse("from __future__ import annotations").body
            module = ast.Module(body=[*future, node], type_ignores=[])
            exec(compile(module, str(source), "exec"), surroundings)
            return surroundings[name]
    pytest.fail(f"{source} has no function {name} any more")


SPECULATORS = """
import hashlib, json, sys, torch
from speculators import SpeculatorModel
model = SpeculatorModel.from_pretrained(sys.argv[1])
state = {name: tensor for name, tensor in model.state_dict().items() if "verifier" not in name}
print(json.dumps({
    "class": type(model).__name__,
    "layers": list(model.target_layer_ids or []),
    "shapes": {name: list(tensor.shape) for name, tensor in state.items()},
    "whole": all(not t.is_floating_point() or bool(t.isfinite().all()) for t in state.values()),
    "head": hashlib.sha256(state["lm_head.weight"].numpy().tobytes()).hexdigest(),
    "ids": (model.d2t + torch.arange(len(model.d2t))).tolist() if model.d2t is not None else None,
    "mask": model.t2d.nonzero().flatten().tolist() if model.t2d is not None else None,
}))
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tiny_target(tmp_path / "target")


@pytest.mark.parametrize("case", ["trimmed", "converted", "converted, all ids"])
def test_speculators_loads_it(tmp_path: Path, target: Path, case: str) -> None:
    import hashlib

    out = tmp_path / "out"
    if case == "trimmed":
        trim(tiny_speculators(tmp_path / "s", ids=IDS), KEPT, out, target=target)
        path = out / "config.json"
        path.write_text(path.read_text().replace('"org/target"', json.dumps(str(target))))
    else:
        ids = IDS if case == "converted" else None
        drafter = tiny_eagle3(tmp_path / "f", ids=ids, own_embedding=True)
        convert(drafter, Layout.SPECULATORS, out, target=target, verifier=str(target))
    found = in_engine(SPECULATORS, out)
    written = raw_tensors(out)
    assert found["class"] == "Eagle3DraftModel"
    assert found["whole"]
    assert found["shapes"] == {name: list(raw[1]) for name, raw in written.items()}
    assert found["head"] == hashlib.sha256(written["lm_head.weight"][2]).hexdigest()
    expected = {"trimmed": KEPT.ids.tolist(), "converted": IDS, "converted, all ids": None}[case]
    assert found["ids"] == found["mask"] == expected
    assert found["layers"] == (LAYERS if case == "trimmed" else [1, 2, 3])


VLLM_SPECULATORS = """
import json, sys
from vllm.transformers_utils.configs.speculators import SpeculatorsConfig
config = SpeculatorsConfig.from_pretrained(sys.argv[1])
raw = json.load(open(sys.argv[1] + "/config.json"))
names = ("draft_vocab_size", "vocab_size", "hidden_size", "architectures",
         "eagle_aux_hidden_state_layer_ids", "norm_before_residual")
said = {name: getattr(config, name) for name in names}
print(json.dumps(said | {"method": SpeculatorsConfig.extract_vllm_speculative_config(raw)}))
"""


def test_vllm_reads_the_config_of_speculators(tmp_path: Path) -> None:
    drafter = tiny_eagle3(tmp_path / "f", ids=IDS)
    convert(drafter, Layout.SPECULATORS, tmp_path / "out", verifier="org/target", tokens=4)
    trim(tmp_path / "out", KEPT, tmp_path / "less")
    said = in_engine(VLLM_SPECULATORS, tmp_path / "less")
    assert (said["draft_vocab_size"], said["vocab_size"]) == (KEPT.size, V)
    assert said["architectures"] == ["Eagle3LlamaForCausalLM"]
    assert said["eagle_aux_hidden_state_layer_ids"] == [1, 2, 3]
    # where nothing is said, vLLM assumes the opposite of speculators
    assert said["norm_before_residual"] is False
    assert said["method"]["num_speculative_tokens"] == 4
    assert said["method"]["method"] == "eagle3"


VLLM_FLAT = """
import json, sys
from types import SimpleNamespace
from transformers import AutoConfig
from vllm.transformers_utils.configs.eagle import EAGLEConfig
model = AutoConfig.from_pretrained(sys.argv[1])
config = EAGLEConfig(model, method="eagle3", model_type="eagle")
names = ("draft_vocab_size", "vocab_size", "architectures", "eagle_aux_hidden_state_layer_ids",
         "eagle_config", "tie_word_embeddings")
print(json.dumps({name: getattr(config, name, None) for name in names}))
"""


def test_vllm_reads_a_flat_config(tmp_path: Path) -> None:
    nested = tiny_speculators(tmp_path / "s", ids=IDS)
    convert(nested, Layout.FLAT, tmp_path / "flat")
    trim(tmp_path / "flat", KEPT, tmp_path / "out")
    said = in_engine(VLLM_FLAT, tmp_path / "out")
    assert (said["draft_vocab_size"], said["vocab_size"]) == (KEPT.size, V)
    assert said["architectures"] == ["LlamaForCausalLMEagle3"]
    assert said["tie_word_embeddings"] is False
    root = there(vllm_python()).parents[1]
    reader = next(root.glob("lib/python3*/site-packages/vllm/v1/worker/gpu_model_runner.py"))
    layers = taken(reader, "_get_eagle3_aux_layers_from_config")
    draft = SimpleNamespace(draft_model_config=SimpleNamespace(hf_config=SimpleNamespace(**said)))
    assert list(layers(SimpleNamespace(speculative_config=draft))) == LAYERS


def _sglang(path: str) -> Path:
    return package_source("sglang") / "sglang" / "srt" / path


def _captured_by_sglang(drafter: Path) -> list[int]:
    """Return the hidden states that SGLang hands a drafter, by its own code."""
    config = json.loads((drafter / "config.json").read_text())
    model = SimpleNamespace(
        num_nextn_predict_layers=None,
        num_hidden_layers=1,
        num_attention_layers=1,
        is_hybrid_swa=False,
        hf_config=SimpleNamespace(**config),
    )
    resolved = SimpleNamespace(draft_kv_num_layers=None)
    spec = SimpleNamespace(
        speculative_draft_model_path=str(drafter), speculative_draft_model_revision=None
    )
    resolve = taken(
        _sglang("model_executor/model_runner_components/spec_aux_hidden_state.py"),
        "_resolve_eagle_aux_hidden_state",
        get_spec=lambda: spec,
        ModelConfig=SimpleNamespace(from_server_args=lambda *_, **__: model),
    )
    algorithm = SimpleNamespace(
        is_eagle=lambda: True, is_eagle3=lambda: True, is_standalone=lambda: False
    )
    resolve(
        config=resolved,
        server_args=None,
        model_config=model,
        spec_algorithm=algorithm,
        is_draft_worker=False,
    )
    target = SimpleNamespace(
        pp_group=SimpleNamespace(is_last_rank=True),
        config=SimpleNamespace(num_hidden_layers=30),
        model=SimpleNamespace(),
    )
    capture = taken(_sglang("models/llama.py"), "set_eagle3_layers_to_capture")
    capture(target, resolved.eagle_aux_hidden_state_layer_ids)
    layers: list[int] = target.model.layers_to_capture
    return layers


@pytest.mark.parametrize("counting", list(Counting))
def test_sglang_captures_the_layers_that_are_meant(tmp_path: Path, counting: Counting) -> None:
    convert(tiny_speculators(tmp_path / "s"), Layout.FLAT, tmp_path / "flat", counting=counting)
    captured = _captured_by_sglang(tmp_path / "flat")
    # a list at the top level is not looked at there: its default takes the place
    assert captured == ([2, 15, 27] if counting is Counting.INPUTS else LAYERS)


def test_sglang_maps_draft_ids_to_the_ids_kept(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    convert(tiny_speculators(tmp_path / "s", ids=IDS), Layout.FLAT, tmp_path / "flat")
    trim(tmp_path / "flat", KEPT, tmp_path / "out")
    load = taken(
        _sglang("models/llama_eagle3.py"), "load_weights", torch=torch, default_weight_loader=None
    )
    drafter = SimpleNamespace(named_parameters=dict, hot_token_id=None)
    tensors = raw_tensors(tmp_path / "out")
    load(drafter, [(n, torch.from_numpy(numbers(r).copy())) for n, r in tensors.items()])
    assert drafter.hot_token_id.tolist() == KEPT.ids.tolist()


def test_sglang_loads_the_list_of_kept_ids(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    write_ids(tmp_path / "ids.pt", KEPT, "ids-pt")
    load = taken(_sglang("speculative/spec_utils.py"), "load_token_map", torch=torch, os=os)
    assert load(str(tmp_path / "ids.pt")).tolist() == KEPT.ids.tolist()
