"""Native prediction layers: rows of the target's head beside a target left alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, edit, numbers, raw_tensors, tiny_lm, write_sparse
from vocabtrim.core.errors import CheckpointError, DecodeError, VocabError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import family_of
from vocabtrim.families.mtp import PLUGIN
from vocabtrim.families.tiny import write_tiny
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.causal import target_cost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import HeadOrigin
from vocabtrim.tensors.mtp_sidecar import target_config

PART = DraftVocab(np.arange(1, V, 4), V)


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    PLUGIN.tiny_checkpoint(tmp_path / "qwen")
    return tmp_path / "qwen"


@pytest.fixture
def deepseek(tmp_path: Path) -> Path:
    """Write a target that ends in one layer more, with copies of its matrices in it."""
    config = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "hidden_size": H,
        "num_hidden_layers": 2,
        "num_nextn_predict_layers": 1,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
        "vocab_size": V,
    }
    layer = "model.layers.2."
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (V, H),
        "model.embed_tokens.weight": (V, H),
        "model.layers.0.mlp.up_proj.weight": (H, H),
        "model.norm.weight": (H,),
        f"{layer}eh_proj.weight": (H, 2 * H),
        f"{layer}enorm.weight": (H,),
        f"{layer}hnorm.weight": (H,),
        f"{layer}shared_head.norm.weight": (H,),
        f"{layer}shared_head.head.weight": (V, H),
        f"{layer}embed_tokens.weight": (V, H),
        **{f"{layer}mlp.experts.{i}.up_proj.weight": (H, H) for i in range(4)},
    }
    write_tiny(tmp_path / "deepseek", config, shapes, 4)
    return tmp_path / "deepseek"


def _size(directory: Path, prefix: str) -> int:
    raw = raw_tensors(directory)
    return sum(numbers(one).size for name, one in raw.items() if name.startswith(prefix))


@pytest.mark.parametrize("layout", ["qwen", "deepseek"])
def test_the_sidecar_holds_the_targets_rows_and_nothing_else(
    layout: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target: Path = request.getfixturevalue(layout)
    (target / "tokenizer_config.json").write_text("{}")
    (target / "README.md").write_text("of the target")
    before = raw_tensors(target)
    result = trim(target, PART, tmp_path / "out", family="mtp")
    written = raw_tensors(tmp_path / "out")
    assert written.keys() == {"lm_head.weight", "d2t", "t2d"}
    rows = numbers(before["lm_head.weight"])[PART.ids]
    assert numbers(written["lm_head.weight"]).tobytes() == rows.tobytes()
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json",
        "model.safetensors",
        "token_map.json",
        "tokenizer_config.json",
        "vocabtrim.json",
    }
    assert raw_tensors(target) == before
    assert (result.family, result.head_source) == ("mtp", HeadOrigin.HOST.value)
    assert result.memory_delta_bytes == rows.nbytes
    ids = json.loads((tmp_path / "out/token_map.json").read_text())["ids"]
    assert ids == PART.ids.tolist()


def test_a_sidecar_knows_itself_what_a_step_reads(qwen: Path, tmp_path: Path) -> None:
    edit(qwen, config={"final_logit_softcapping": 15.0})
    trim(qwen, PART, tmp_path / "out", family="mtp")
    sidecar, target = Checkpoint.open(tmp_path / "out"), Checkpoint.open(qwen)
    assert family_of(sidecar).name == "mtp"
    assert sidecar.config["final_logit_softcapping"] == 15.0
    assert (sidecar.integer("vocab_size"), sidecar.integer("hidden_size")) == (V, H)
    full, part = PLUGIN.cost(target, None), PLUGIN.cost(sidecar, None)
    assert full.step_bytes - part.step_bytes == 4 * (V - PART.size) * H
    assert full.params - part.params == (V - PART.size) * H
    half = PLUGIN.cost(sidecar, None, itemsize=2)
    assert (half.step_bytes, half.head_bytes) == (part.step_bytes // 2, part.head_bytes // 2)


def test_a_step_reads_the_layer_a_row_and_the_head(qwen: Path) -> None:
    trunk = _size(qwen, "mtp.")
    assert PLUGIN.cost(Checkpoint.open(qwen), None) == StepCost(
        params=trunk + 2 * V * H,
        head_params=V * H,
        step_bytes=4 * (trunk + H + V * H),
        head_bytes=4 * V * H,
    )


def test_experts_are_read_in_part_and_copies_not_at_all(deepseek: Path) -> None:
    trunk = _size(deepseek, "model.layers.2.") - 2 * V * H
    unread = 2 * H * H
    cost = PLUGIN.cost(Checkpoint.open(deepseek), None)
    assert cost.params == trunk + 2 * V * H
    assert cost.step_bytes == 4 * (trunk - unread + H + V * H)


def test_the_target_itself_does_not_read_them(qwen: Path) -> None:
    with_layers = target_cost(Checkpoint.open(qwen))
    edit(qwen, drop=[name for name in raw_tensors(qwen) if name.startswith("mtp.")])
    assert target_cost(Checkpoint.open(qwen)) == with_layers
    assert not PLUGIN.matches(Checkpoint.open(qwen))


def test_a_tied_target_gives_rows_of_its_embedding(qwen: Path, tmp_path: Path) -> None:
    edit(qwen, drop=["lm_head.weight"], config={"tie_word_embeddings": True})
    result = trim(qwen, PART, tmp_path / "out", family="mtp")
    rows = numbers(raw_tensors(qwen)["model.embed_tokens.weight"])[PART.ids]
    assert np.array_equal(numbers(raw_tensors(tmp_path / "out")["lm_head.weight"]), rows)
    assert result.head_source == HeadOrigin.HOST_EMBEDDING.value


def test_a_sidecar_is_trimmed_again_among_its_ids_only(qwen: Path, tmp_path: Path) -> None:
    trim(qwen, PART, tmp_path / "once", family="mtp")
    less = DraftVocab(PART.ids[::3], V)
    trim(tmp_path / "once", less, tmp_path / "twice")
    trim(qwen, less, tmp_path / "direct", family="mtp")
    assert raw_tensors(tmp_path / "twice") == raw_tensors(tmp_path / "direct")
    for file in ("config.json", "token_map.json"):
        twice, direct = tmp_path / "twice" / file, tmp_path / "direct" / file
        assert twice.read_text() == direct.read_text()
    with pytest.raises(VocabError, match="have no row in the head"):
        trim(tmp_path / "once", DraftVocab(np.arange(3), V), tmp_path / "never")


@pytest.mark.parametrize(
    "facts",
    [
        {"layout": "qwen3-next"},
        {"layout": 3, "params": 1, "read_params": 1, "read_bytes": 1}
        | {"embedding_params": 1, "embedding_bytes": 1},
        {"layout": "x", "params": -1, "read_params": 1, "read_bytes": 1}
        | {"embedding_params": 1, "embedding_bytes": 1},
        "text",
    ],
)
def test_a_damaged_sidecar_is_named(qwen: Path, tmp_path: Path, facts: object) -> None:
    trim(qwen, PART, tmp_path / "out", family="mtp")
    edit(tmp_path / "out", config={"vocabtrim": {"mtp_sidecar": facts}})
    with pytest.raises(CheckpointError, match="sidecar"):
        family_of(Checkpoint.open(tmp_path / "out"))


def test_it_is_not_decoded_here(qwen: Path) -> None:
    opened = Checkpoint.open(qwen)
    with pytest.raises(DecodeError, match="native prediction layers are not decoded here"):
        PLUGIN.load_drafter(opened, opened, None, None)


def test_an_ordinary_target_has_none(tmp_path: Path) -> None:
    assert not PLUGIN.matches(Checkpoint.open(tiny_lm(tmp_path / "lm")))


def test_deepseek_v3_has_the_size_that_its_authors_state(tmp_path: Path) -> None:
    """11.5B parameters of its own besides 0.9B each of embedding and head (README_WEIGHTS)."""
    H, V, layer = 7168, 129280, "model.layers.61."
    config = {"hidden_size": H, "num_hidden_layers": 61, "vocab_size": V}
    config |= {"n_routed_experts": 256, "num_experts_per_tok": 8}
    write_tiny(tmp_path / "d", config, {}, 0)
    shapes = {
        "lm_head.weight": (V, H),
        "model.embed_tokens.weight": (V, H),
        f"{layer}eh_proj.weight": (H, 2 * H),
        f"{layer}self_attn.q_a_proj.weight": (1536, H),
        f"{layer}self_attn.q_b_proj.weight": (128 * 192, 1536),
        f"{layer}self_attn.kv_a_proj_with_mqa.weight": (576, H),
        f"{layer}self_attn.kv_b_proj.weight": (128 * 256, 512),
        f"{layer}self_attn.o_proj.weight": (H, 128 * 128),
        f"{layer}mlp.gate.weight": (256, H),
        f"{layer}shared_head.head.weight": (V, H),
        f"{layer}embed_tokens.weight": (V, H),
    }
    for one in [f"experts.{index}" for index in range(256)] + ["shared_experts"]:
        shapes |= {f"{layer}mlp.{one}.{p}_proj.weight": (2048, H) for p in ("gate", "up")}
        shapes[f"{layer}mlp.{one}.down_proj.weight"] = (H, 2048)
    weights = {name: ("BF16", shape) for name, shape in shapes.items()}
    write_sparse(tmp_path / "d/model.safetensors", weights)
    cost = PLUGIN.cost(Checkpoint.open(tmp_path / "d"), None)
    assert (cost.params - 2 * V * H) / 1e9 == pytest.approx(11.5, rel=0.02)
    assert (cost.step_bytes / 2 + V * H) / 1e9 == pytest.approx(2.4, rel=0.07)
    assert pytest.approx(0.9, rel=0.05) == V * H / 1e9


def test_a_sidecar_remembers_how_its_target_reads(qwen: Path, tmp_path: Path) -> None:
    trim(qwen, PART, tmp_path / "out", family="mtp")
    again = DraftVocab(PART.ids[::2], V)
    trim(tmp_path / "out", again, tmp_path / "less")
    for path in (tmp_path / "out", tmp_path / "less"):
        config = Checkpoint.open(path).config
        assert target_config(config) == dict(Checkpoint.open(qwen).config)
