"""What we write has the names, shapes and types of what others publish.

The lists are from outside. Where an index is public, from that; drafters are
published as one file without one, so theirs are from the code that saves or loads
them. Sizes are letters here, set to small numbers: H hidden, Q and C the widths of
queries and of keys and values, M the MLP's, V ids, K rows.

* EAGLE-3, flat: SafeAILab/EAGLE `eagle/model/cnets.py`, `Model.__init__`, and
  SpecForge 0.2.0 `llama3_eagle.py`; held against what yuhuili's
  EAGLE3-LLaMA3.1-Instruct-8B stores, as the GitHub repository tanishqkumar/ssd
  lists it tensor by tensor (`ssd/models/eagle3_draft_llama3.py`, commit 55b3886);
* EAGLE-3, speculators 0.9: `models/eagle3/core.py` and `model_definitions.py`;
* EAGLE-3 of ModelOpt: `torch/export/plugins/hf_spec_export.py`;
* EAGLE-1: SafeAILab/EAGLE `eagle/model/cnets1.py`;
* Qwen3.6 with prediction layers: `model.safetensors.index.json` of the GitHub
  repository fantasylord/Qwen36, commit 9038b11;
* DeepSeek-V3: `README_WEIGHTS.md` of deepseek-ai/DeepSeek-V3 and vLLM's
  `deepseek_mtp.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import RawTensor, edit, raw_tensors, tiny_target, write_raw
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import family_of
from vocabtrim.families.tiny import write_tiny
from vocabtrim.pipeline.convert import convert
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.causal import prediction_layers
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import Layout

SIZES = {"H": 32, "2H": 64, "3H": 96, "Q": 32, "C": 16, "M": 64, "V": 96}
IDS = list(range(0, 96, 2))

Shapes = Mapping[str, tuple[str, tuple[str, ...]]]

_EAGLE3_LAYER = {
    "self_attn.q_proj.weight": ("F16", ("Q", "2H")),
    "self_attn.k_proj.weight": ("F16", ("C", "2H")),
    "self_attn.v_proj.weight": ("F16", ("C", "2H")),
    "self_attn.o_proj.weight": ("F16", ("H", "Q")),
    "mlp.gate_proj.weight": ("F16", ("M", "H")),
    "mlp.up_proj.weight": ("F16", ("M", "H")),
    "mlp.down_proj.weight": ("F16", ("H", "M")),
    "hidden_norm.weight": ("F16", ("H",)),
    "input_layernorm.weight": ("F16", ("H",)),
    "post_attention_layernorm.weight": ("F16", ("H",)),
}
_EAGLE3_REST = {
    "fc.weight": ("F16", ("H", "3H")),
    "norm.weight": ("F16", ("H",)),
    "lm_head.weight": ("F16", ("K", "H")),
    "d2t": ("I64", ("K",)),
}
_MASK = {"t2d": ("BOOL", ("V",))}

SAFEAILAB: Shapes = {f"midlayer.{n}": s for n, s in _EAGLE3_LAYER.items()} | _EAGLE3_REST | _MASK
MODELOPT: Shapes = {f"layers.0.{n}": s for n, s in _EAGLE3_LAYER.items()} | _EAGLE3_REST
SPECULATORS: Shapes = (
    {f"layers.0.{n}": s for n, s in _EAGLE3_LAYER.items()}
    | _EAGLE3_REST
    | _MASK
    | {"embed_tokens.weight": ("F16", ("V", "H"))}
)
EAGLE1: Shapes = {
    "embed_tokens.weight": ("F16", ("V", "H")),
    "fc.weight": ("F16", ("H", "2H")),
    "fc.bias": ("F16", ("H",)),
    "layers.0.self_attn.q_proj.weight": ("F16", ("Q", "H")),
    "layers.0.self_attn.k_proj.weight": ("F16", ("C", "H")),
    "layers.0.self_attn.v_proj.weight": ("F16", ("C", "H")),
    "layers.0.self_attn.o_proj.weight": ("F16", ("H", "Q")),
    "layers.0.mlp.gate_proj.weight": ("F16", ("M", "H")),
    "layers.0.mlp.up_proj.weight": ("F16", ("M", "H")),
    "layers.0.mlp.down_proj.weight": ("F16", ("H", "M")),
    "layers.0.post_attention_layernorm.weight": ("F16", ("H",)),
}

LLAMA31_8B = {
    "d2t": (32_000,),
    "t2d": (128_256,),
    "midlayer.self_attn.q_proj.weight": (4096, 8192),
    "midlayer.self_attn.k_proj.weight": (1024, 8192),
    "midlayer.self_attn.v_proj.weight": (1024, 8192),
    "midlayer.self_attn.o_proj.weight": (4096, 4096),
    "midlayer.mlp.gate_proj.weight": (14_336, 4096),
    "midlayer.mlp.up_proj.weight": (14_336, 4096),
    "midlayer.mlp.down_proj.weight": (4096, 14_336),
    "midlayer.hidden_norm.weight": (4096,),
    "midlayer.input_layernorm.weight": (4096,),
    "midlayer.post_attention_layernorm.weight": (4096,),
    "norm.weight": (4096,),
    "fc.weight": (4096, 12_288),
    "lm_head.weight": (32_000, 4096),
}
"""What is stored of yuhuili/EAGLE3-LLaMA3.1-Instruct-8B."""

LLAMA31_SIZES = {"H": 4096, "2H": 8192, "3H": 12_288, "Q": 4096, "C": 1024, "M": 14_336}

QWEN36_INDEX = (
    "mtp.fc.weight",
    "mtp.layers.0.input_layernorm.weight",
    *(
        f"mtp.layers.0.{part}.{kind}"
        for part in (
            "mlp.down_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "self_attn.k_proj",
            "self_attn.o_proj",
            "self_attn.q_proj",
            "self_attn.v_proj",
        )
        for kind in ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point")
    ),
    "mtp.layers.0.post_attention_layernorm.weight",
    "mtp.layers.0.self_attn.k_norm.weight",
    "mtp.layers.0.self_attn.q_norm.weight",
    "mtp.norm.weight",
    "mtp.pre_fc_norm_embedding.weight",
    "mtp.pre_fc_norm_hidden.weight",
)
QWEN36_TARGET = (
    "model.language_model.layers.0.mlp.down_proj.weight_shape",
    "model.visual.blocks.0.attn.qkv.weight",
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "head_dim": 8,
    "hidden_size": 32,
    "intermediate_size": 64,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "vocab_size": 96,
}


def listed(shapes: Shapes, K: int, **others: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    sizes = SIZES | {"K": K} | others
    return {name: (dtype, tuple(sizes[d] for d in dims)) for name, (dtype, dims) in shapes.items()}


def published(directory: Path, shapes: Shapes) -> Path:
    """Write a drafter that has exactly the tensors of a list."""
    reduced = "lm_head.weight" in shapes
    write_tiny(directory, CONFIG | ({"draft_vocab_size": len(IDS)} if reduced else {}), {}, 0)
    generator = np.random.default_rng(0)
    kept = np.array(IDS)
    maps = {"d2t": (kept - np.arange(kept.size)).tobytes()}
    maps["t2d"] = np.isin(np.arange(96), kept).tobytes()
    tensors: dict[str, RawTensor] = {}
    for name, (dtype, shape) in listed(shapes, len(IDS)).items():
        random = generator.normal(size=shape).astype(np.float16).tobytes()
        tensors[name] = (dtype, shape, maps.get(name, random))
    write_raw(directory, tensors)
    return directory


def found(directory: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: raw[:2] for name, raw in raw_tensors(directory).items()}


def test_the_list_is_that_of_a_published_drafter() -> None:
    at_its_size = listed(SAFEAILAB, 32_000, V=128_256, **LLAMA31_SIZES)
    assert {name: shape for name, (_, shape) in at_its_size.items()} == LLAMA31_8B


@pytest.mark.parametrize(
    ("family", "shapes", "more"),
    [
        ("eagle3", SAFEAILAB, {}),
        # ModelOpt stores no mask; a trimmed drafter has one, which engines skip
        ("eagle3", MODELOPT, _MASK),
        ("eagle", EAGLE1, {"lm_head.weight": ("F32", ("K", "H")), "d2t": ("I64", ("K",))} | _MASK),
    ],
)
def test_a_trimmed_drafter_has_the_tensors_of_its_layout(
    tmp_path: Path, family: str, shapes: Shapes, more: Shapes
) -> None:
    drafter = published(tmp_path / "d", shapes)
    assert family_of(Checkpoint.open(drafter)).name == family
    target = tiny_target(tmp_path / "t")
    trim(drafter, DraftVocab(np.array(IDS[:20]), 96), tmp_path / "out", target=target)
    assert found(tmp_path / "out") == listed({**shapes, **more}, 20)


@pytest.mark.parametrize("shapes", [SAFEAILAB, MODELOPT])
def test_a_converted_drafter_has_the_tensors_of_the_other_layout(
    tmp_path: Path, shapes: Shapes
) -> None:
    embedding = {"embed_tokens.weight": SPECULATORS["embed_tokens.weight"]}
    flat = published(tmp_path / "flat", {**shapes, **embedding})
    convert(flat, Layout.SPECULATORS, tmp_path / "nested")
    assert found(tmp_path / "nested") == listed(SPECULATORS, len(IDS))


def test_speculators_become_flat(tmp_path: Path) -> None:
    nested = published(tmp_path / "nested", SPECULATORS)
    layer = {k: v for k, v in CONFIG.items() if k != "architectures"}
    edit(
        nested,
        config={"speculators_model_type": "eagle3", "transformer_layer_config": layer},
        forget=layer,
    )
    convert(nested, Layout.FLAT, tmp_path / "flat")
    embedding = {"embed_tokens.weight": SPECULATORS["embed_tokens.weight"]}
    assert found(tmp_path / "flat") == listed({**SAFEAILAB, **embedding}, len(IDS))


def test_the_prediction_layers_of_a_published_index_are_all_found(tmp_path: Path) -> None:
    shapes = dict.fromkeys(QWEN36_INDEX + QWEN36_TARGET, (2, 2))
    write_tiny(tmp_path / "t", {"text_config": {"num_hidden_layers": 64}}, shapes, 0)
    layers = prediction_layers(Checkpoint.open(tmp_path / "t"))
    assert layers is not None
    assert layers.layout == "qwen3-next"
    assert {info.name for info in layers.tensors} == set(QWEN36_INDEX)


def test_the_prediction_layer_that_deepseek_describes_is_found(tmp_path: Path) -> None:
    """Layer 61 follows layers 0 to 60; embedding and head in it are the model's own."""
    own = ["enorm.weight", "hnorm.weight", "eh_proj.weight", "shared_head.norm.weight"]
    own += ["self_attn.o_proj.weight", "mlp.gate.weight", "input_layernorm.weight"]
    shared = ["embed_tokens.weight", "shared_head.head.weight"]
    names = [f"model.layers.61.{name}" for name in own + shared]
    trunk = ["model.embed_tokens.weight", "lm_head.weight", "model.layers.60.mlp.gate.weight"]
    shapes = dict.fromkeys(names + trunk, (2, 2))
    write_tiny(tmp_path / "t", {"num_hidden_layers": 61}, shapes, 0)
    layers = prediction_layers(Checkpoint.open(tmp_path / "t"))
    assert layers is not None
    assert (layers.layout, layers.depths) == ("deepseek-v3", 1)
    assert {info.name for info in layers.tensors} == {f"model.layers.61.{name}" for name in own}
