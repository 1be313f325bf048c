"""EAGLE-3: recognised by its tensors, with the costs that figures of the method use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import (
    H,
    V,
    edit,
    in_bfloat16,
    numbers,
    raw_tensors,
    tiny_eagle3,
    tiny_speculators,
    tiny_target,
    write_raw,
    write_sparse,
)
from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost, relative_cost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.eagle3 import PLUGIN
from vocabtrim.families.tiny import write_tiny
from vocabtrim.pipeline.convert import convert
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.causal import target_cost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import Layout
from vocabtrim.tensors.head_source import HeadOrigin
from vocabtrim.tensors.locate import locate

IDS = list(range(0, V, 3))
EMBEDDING_ROW, FUSION = H, H * 3 * H


@pytest.fixture
def target(tmp_path: Path) -> Checkpoint:
    return Checkpoint.open(tiny_target(tmp_path / "target"))


def _trunk(directory: Path) -> int:
    aside = ("embed_tokens.weight", "lm_head.weight", "lm_head.bias", "d2t", "t2d")
    return sum(numbers(r).size for name, r in raw_tensors(directory).items() if name not in aside)


def test_both_names_of_the_layer_are_recognised(tmp_path: Path) -> None:
    directory = tiny_eagle3(tmp_path / "d")
    assert PLUGIN.matches(Checkpoint.open(directory))
    renamed = {
        name.replace("midlayer.", "layers.0."): raw for name, raw in raw_tensors(directory).items()
    }
    write_raw(directory, renamed)
    assert PLUGIN.matches(Checkpoint.open(directory))


def test_its_own_head_comes_before_the_targets(tmp_path: Path, target: Checkpoint) -> None:
    drafter = Checkpoint.open(tiny_eagle3(tmp_path / "d", ids=IDS))
    head = PLUGIN.head(drafter, target)
    assert (head.origin, head.checkpoint) == (HeadOrigin.OWN, drafter)
    assert head.held.ids.tolist() == IDS
    assert not PLUGIN.needs_target(drafter)


def test_without_a_head_it_needs_the_target(tmp_path: Path, target: Checkpoint) -> None:
    drafter = Checkpoint.open(tiny_eagle3(tmp_path / "d"))
    assert PLUGIN.needs_target(drafter)
    assert PLUGIN.head(drafter, target).checkpoint is target
    with pytest.raises(CheckpointError, match="so its head is the target's: give --target"):
        PLUGIN.head(drafter, None)


@pytest.mark.parametrize("stated", [None, V])
def test_a_config_may_leave_out_the_size_of_a_full_vocabulary(
    tmp_path: Path, target: Checkpoint, stated: int | None
) -> None:
    directory = edit(tiny_eagle3(tmp_path / "d"), config={"draft_vocab_size": stated})
    assert PLUGIN.head(Checkpoint.open(directory), target).held.is_full
    edit(directory, forget=["draft_vocab_size"], add={"d2t": np.zeros(V, np.int64)})
    assert PLUGIN.head(Checkpoint.open(directory), target).held.is_full


def test_a_map_beside_a_borrowed_head_must_name_every_id(
    tmp_path: Path, target: Checkpoint
) -> None:
    directory = edit(tiny_eagle3(tmp_path / "d"), add={"d2t": np.zeros(V - 1, np.int64)})
    for given in (target, None):
        with pytest.raises(CheckpointError, match=f"d2t has {V - 1} entries, but its head has {V}"):
            PLUGIN.cost(Checkpoint.open(directory), given)


def test_a_head_of_its_own_is_no_longer_tied(tmp_path: Path, target: Checkpoint) -> None:
    directory = edit(tiny_eagle3(tmp_path / "d"), config={"tie_word_embeddings": True})
    drafter = Checkpoint.open(directory)
    head = PLUGIN.head(drafter, target)
    config = PLUGIN.trimmed_config(drafter.config, DraftVocab(np.array(IDS), V), head)
    assert config["tie_word_embeddings"] is False


def test_a_row_is_read_of_the_embedding_that_is_used(tmp_path: Path, target: Checkpoint) -> None:
    directory = in_bfloat16(tiny_eagle3(tmp_path / "d", own_head=True))
    borrowed = PLUGIN.cost(Checkpoint.open(directory), target).step_bytes
    edit(directory, add={"embed_tokens.weight": np.zeros((V, H), np.uint8)})
    own = PLUGIN.cost(Checkpoint.open(directory), target).step_bytes
    assert borrowed - own == 4 * H - H


def test_a_reduced_drafter_without_a_head_is_refused(tmp_path: Path, target: Checkpoint) -> None:
    directory = edit(tiny_eagle3(tmp_path / "d", ids=IDS), drop=["lm_head.weight"])
    drafter = Checkpoint.open(directory)
    for call in (
        lambda: PLUGIN.head(drafter, target),
        lambda: PLUGIN.cost(drafter, target),
        lambda: PLUGIN.cost(drafter, None),
    ):
        with pytest.raises(CheckpointError, match=f"drafts over {len(IDS)} of {V} ids but has no"):
            call()


def test_the_config_of_a_trimmed_one(tmp_path: Path) -> None:
    target = edit(tiny_target(tmp_path / "t"), config={"logit_scale": 0.5})
    drafter = Checkpoint.open(tiny_eagle3(tmp_path / "d"))
    head = PLUGIN.head(drafter, Checkpoint.open(target))
    config = PLUGIN.trimmed_config(drafter.config, DraftVocab(np.array(IDS), V), head)
    assert config == dict(drafter.config) | {"draft_vocab_size": len(IDS), "logit_scale": 0.5}
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (V, False)
    whole = PLUGIN.trimmed_config(drafter.config, DraftVocab.full(V), head)
    assert whole == dict(drafter.config)


def test_speculators_layout_is_trimmed_in_place(tmp_path: Path) -> None:
    """Its vocabulary sizes stand in two places, and the nested one stays V."""
    drafter = tiny_speculators(tmp_path / "s", ids=IDS)
    less = DraftVocab(np.array(IDS[::2]), V)
    result = trim(drafter, less, tmp_path / "out")
    before, after = (Checkpoint.open(tmp_path / name) for name in ("s", "out"))
    assert (result.V, result.K_before, result.K) == (V, len(IDS), less.size)
    nested = {"transformer_layer_config": dict(before.config["transformer_layer_config"])}
    assert dict(after.config) == dict(before.config) | nested | {"draft_vocab_size": less.size}
    rows = numbers(raw_tensors(drafter)["lm_head.weight"])[::2]
    assert np.array_equal(numbers(raw_tensors(tmp_path / "out")["lm_head.weight"]), rows)
    assert PLUGIN.head(after, None).held == less


def test_what_the_target_says_of_logits_goes_to_the_decoder(tmp_path: Path) -> None:
    target = edit(tiny_target(tmp_path / "t"), config={"logit_scale": 0.5})
    drafter = edit(tiny_speculators(tmp_path / "s"), drop=["lm_head.weight"])
    trim(drafter, DraftVocab(np.array(IDS), V), tmp_path / "out", target=target)
    config = Checkpoint.open(tmp_path / "out").config
    assert config["transformer_layer_config"]["logit_scale"] == 0.5
    assert "logit_scale" not in config


def test_ids_by_frequency_come_out_ascending_with_their_rows(tmp_path: Path) -> None:
    """As ModelOpt writes a map: negative offsets, and no mask beside it."""
    ids = np.array([70, 5, 7, 1])
    drafter = tiny_eagle3(tmp_path / "d", ids=sorted(ids.tolist()))
    edit(drafter, add={"d2t": ids - np.arange(4)}, drop=["t2d"])
    trim(drafter, DraftVocab(np.array([1, 5, 70]), V), tmp_path / "out")
    rows = numbers(raw_tensors(drafter)["lm_head.weight"])
    written = raw_tensors(tmp_path / "out")
    assert np.array_equal(numbers(written["lm_head.weight"]), rows[[3, 1, 0]])
    assert (numbers(written["d2t"]) + np.arange(3)).tolist() == [1, 5, 70]


def test_a_packed_head_is_refused_and_not_taken_for_none(
    tmp_path: Path, target: Checkpoint
) -> None:
    for name in ("lm_head.qweight", "lm_head.weight_packed"):
        packed = {name: np.zeros((4, V), np.int32)}
        drafter = Checkpoint.open(edit(tiny_eagle3(tmp_path / name), add=packed))
        assert not PLUGIN.needs_target(drafter)
        with pytest.raises(CheckpointError, match=f"its head is packed .{name}"):
            PLUGIN.head(drafter, target)


def test_cost_with_a_borrowed_head(tmp_path: Path, target: Checkpoint) -> None:
    directory = tiny_eagle3(tmp_path / "d")
    trunk = _trunk(directory)
    assert PLUGIN.cost(Checkpoint.open(directory), target) == StepCost(
        params=trunk + 2 * V * H,
        head_params=V * H,
        step_bytes=4 * (trunk - FUSION + V * H + EMBEDDING_ROW),
        head_bytes=4 * V * H,
        cycle_bytes=4 * FUSION,
    )


def test_cost_with_a_reduced_head_and_an_embedding_of_its_own(tmp_path: Path) -> None:
    directory = tiny_eagle3(tmp_path / "d", ids=IDS, own_embedding=True)
    trunk, K = _trunk(directory), len(IDS)
    assert PLUGIN.cost(Checkpoint.open(directory), None) == StepCost(
        params=trunk + V * H + K * H,
        head_params=K * H,
        step_bytes=4 * (trunk - FUSION + K * H + EMBEDDING_ROW),
        head_bytes=4 * K * H,
        cycle_bytes=4 * FUSION,
    )


def test_a_borrowed_head_counts_at_the_targets_precision(
    tmp_path: Path, target: Checkpoint
) -> None:
    directory = in_bfloat16(tiny_eagle3(tmp_path / "d"))
    drafter, trunk = Checkpoint.open(directory), _trunk(directory)
    cost = PLUGIN.cost(drafter, target)
    assert cost.head_bytes == 4 * V * H
    assert cost.step_bytes == 2 * (trunk - FUSION) + 4 * (V * H + EMBEDDING_ROW)
    assumed = PLUGIN.cost(drafter, None)
    assert assumed.head_bytes == 2 * V * H
    assert assumed.step_bytes == 2 * (trunk - FUSION + V * H + EMBEDDING_ROW)
    assert assumed.params == cost.params


def test_cost_at_another_precision(tmp_path: Path, target: Checkpoint) -> None:
    exact = Checkpoint.open(tiny_eagle3(tmp_path / "f32"))
    half = Checkpoint.open(in_bfloat16(tiny_eagle3(tmp_path / "bf16")))
    expected = PLUGIN.cost(exact, target)
    assert PLUGIN.cost(half, target, itemsize=4) == expected
    assert PLUGIN.cost(half, None, itemsize=4) == expected


def test_the_bias_of_a_head_counts_with_it(tmp_path: Path) -> None:
    directory = tiny_eagle3(tmp_path / "d", ids=IDS)
    before = PLUGIN.cost(Checkpoint.open(directory), None)
    edit(directory, add={"lm_head.bias": np.zeros(len(IDS), np.float32)})
    after = PLUGIN.cost(Checkpoint.open(directory), None)
    assert after.params - before.params == len(IDS)
    assert after.head_params - before.head_params == len(IDS)
    assert after.step_bytes - before.step_bytes == 4 * len(IDS)


def test_the_drafter_of_the_source_has_the_size_that_its_table_implies(tmp_path: Path) -> None:
    """A layer of Llama-3.2-3B and a fusion of two features: 907.6M, at 32,975 rows 614.9M."""
    hidden, inner, kv, vocab_size = 3072, 8192, 1024, 128256
    layer = {
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.v_proj.weight": (kv, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "hidden_norm.weight": (hidden,),
    }
    shapes = {"fc.weight": (hidden, 2 * hidden), **{f"midlayer.{k}": s for k, s in layer.items()}}
    directory = tmp_path / "d"
    write_tiny(directory, {"hidden_size": hidden, "vocab_size": vocab_size}, {}, 0)
    weights = {name: ("BF16", shape) for name, shape in shapes.items()}
    write_sparse(directory / "model.safetensors", weights)
    drafter = Checkpoint.open(directory)
    assert PLUGIN.cost(drafter, None).params / 1e6 == pytest.approx(907.6, abs=0.1)
    head = {"d2t": ("I64", (32975,)), "lm_head.weight": ("BF16", (32975, hidden))}
    write_sparse(directory / "model.safetensors", head | weights)
    trimmed = PLUGIN.cost(Checkpoint.open(directory), None)
    assert trimmed.params / 1e6 == pytest.approx(614.9, abs=0.1)
    assert trimmed.head_params / 1e6 == pytest.approx(101.3, abs=0.1)


def test_the_demo_drafter(demo_cache: Path) -> None:
    target = Checkpoint.open(locate("demo"))
    drafter = Checkpoint.open(locate("demo-eagle3"))
    cost = PLUGIN.cost(drafter, target)
    assert cost.params == 61_712_640
    assert target_cost(target).params == 134_515_008
    assert relative_cost(cost, target_cost(target)) == pytest.approx(0.4588, abs=1e-4)
    assert cost.head_share(4) == pytest.approx(0.867, abs=1e-3)


def test_speculators_layout_opens_for_decoding_as_the_flat_one(
    tmp_path: Path, target: Checkpoint
) -> None:
    nested = tiny_speculators(tmp_path / "s", ids=IDS)
    convert(nested, Layout.FLAT, tmp_path / "flat")
    drafters = [opened(directory, target) for directory in (nested, tmp_path / "flat")]
    assert [drafter.feature_layers for drafter in drafters] == [(1, 2, 4)] * 2
    assert first_drafts(drafters[0]) == first_drafts(drafters[1])


def opened(directory: Path, target: Checkpoint, vocab: DraftVocab | None = None) -> Any:
    """Open a drafter for decoding on a tiny target."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(target.path)
    return PLUGIN.load_drafter(Checkpoint.open(directory), target, model, vocab)


def first_drafts(drafter: Any) -> list[int]:
    import torch

    drafter.begin(30)
    generator = torch.Generator().manual_seed(0)
    drafter.commit(list(range(3, 13)), torch.randn(9, 3 * H, generator=generator))
    draft: list[int] = drafter.propose(5)
    return draft


def test_it_opens_for_decoding_with_the_matrices_of_the_target(
    tmp_path: Path, target: Checkpoint
) -> None:
    torch = pytest.importorskip("torch")
    drafter = opened(tiny_eagle3(tmp_path / "d"), target)
    rows = torch.from_numpy(numbers(raw_tensors(target.path)["model.embed_tokens.weight"]).copy())
    assert drafter.feature_layers == (1, 2, 3)
    assert drafter.head.vocab.is_full
    assert torch.equal(drafter.head.weight, rows)
    assert torch.equal(drafter.layer.embeddings, rows)


def test_it_opens_for_decoding_with_matrices_of_its_own(tmp_path: Path, target: Checkpoint) -> None:
    torch = pytest.importorskip("torch")
    directory = tiny_eagle3(tmp_path / "d", ids=IDS, own_embedding=True)
    drafter = opened(directory, target)
    assert drafter.head.vocab.ids.tolist() == IDS
    for found, name in (
        (drafter.head.weight, "lm_head.weight"),
        (drafter.layer.embeddings, "embed_tokens.weight"),
    ):
        expected = torch.from_numpy(numbers(raw_tensors(directory)[name]).copy())
        assert torch.equal(found, expected)


def test_trimmed_on_disk_it_drafts_as_trimmed_in_memory(tmp_path: Path, target: Checkpoint) -> None:
    torch = pytest.importorskip("torch")
    directory, vocab = tiny_eagle3(tmp_path / "d"), DraftVocab.from_ids(IDS, V)
    trim(directory, vocab, tmp_path / "out", target=target.path)
    memory = opened(directory, target, vocab)
    disk = opened(tmp_path / "out", target)
    assert torch.equal(memory.head.weight, disk.head.weight)
    assert memory.head.vocab.ids.tolist() == disk.head.vocab.ids.tolist() == IDS
    assert first_drafts(memory) == first_drafts(disk)
    assert set(first_drafts(disk)) <= set(IDS)


def test_a_drafter_of_another_target_is_refused(tmp_path: Path) -> None:
    wider = Checkpoint.open(tiny_target(tmp_path / "wide", hidden=2 * H))
    with pytest.raises(CheckpointError, match="trained for another target"):
        opened(tiny_eagle3(tmp_path / "shared"), wider)
    own = tiny_eagle3(tmp_path / "own", ids=IDS, own_embedding=True)
    with pytest.raises(CheckpointError, match=r"reads 96 values, but 3 hidden states .* have 192"):
        opened(own, wider)
