"""A probe tells a right drafter from one whose map or layers are wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import edit, write_raw
from tests.tiny_models import H, V, write_tokenizer
from tests.tiny_pairs import EAGLE_CONFIG, eagle_tensors, markov_pair, vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.pipeline import probe as module
from vocabtrim.pipeline.checks.base import Finding, Severity
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.pipeline.probe import AS_IS, probe_drafter
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tokens.prompts import Prompt

KEPT = vocabulary(V - 8)
PROMPTS = [
    Prompt(str(n), ({"role": "user", "content": text},), None)
    for n, text in enumerate(["red green", "one two three", "blue"])
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Directories of a drafter that is right wherever its ids allow, and of its target."""
    place = tmp_path_factory.mktemp("pair")
    model, _ = markov_pair(KEPT)
    model.save_pretrained(place / "target")
    write_tokenizer(place / "target", chat=True)
    eye, zero, constant = torch.eye(H), torch.zeros(H, H), torch.zeros(H, 2 * H)
    constant[:, 0] = 20.0
    # the layer of `markov_pair`, which gives back the embedding of the last id
    tensors = eagle_tensors(0) | {
        "fc.weight": torch.cat([eye, zero, zero], dim=1),
        "midlayer.self_attn.q_proj.weight": constant,
        "midlayer.self_attn.k_proj.weight": constant,
        "midlayer.self_attn.v_proj.weight": torch.cat([eye, -eye], dim=1),
        "midlayer.self_attn.o_proj.weight": eye,
        "midlayer.mlp.down_proj.weight": torch.zeros(H, 2 * H),
        **{f"midlayer.{name}.weight": torch.ones(H) for name in ("input_layernorm", "hidden_norm")},
        "norm.weight": torch.ones(H),
        "lm_head.weight": model.get_output_embeddings().weight[torch.from_numpy(KEPT.ids.copy())],
        "embed_tokens.weight": model.get_input_embeddings().weight,
    }
    raw = {
        name: ("F32", tuple(one.shape), one.detach().contiguous().numpy().tobytes())
        for name, one in tensors.items()
    }
    (place / "drafter").mkdir()
    config = EAGLE_CONFIG | {
        "architectures": ["LlamaForCausalLMEagle3"],
        "num_key_value_heads": 4,
        "num_hidden_layers": 1,
        "draft_vocab_size": KEPT.size,
        "eagle_aux_hidden_state_layer_ids": [0, 1, 2],
    }
    (place / "drafter" / "config.json").write_text(json.dumps(config))
    write_raw(place / "drafter", raw)
    edit(place / "drafter", add={"d2t": KEPT.d2t, "t2d": KEPT.t2d})
    return place / "drafter", place / "target"


def subject(drafter: Path, target: Path) -> Subject:
    opened = Verifier(Checkpoint.open(target))
    return Subject(drafter, Form.CHECKPOINT, Checkpoint.open(drafter), target=opened)


def test_a_right_map_is_accepted_most(pair: tuple[Path, Path]) -> None:
    found, figures = probe_drafter(subject(*pair), PROMPTS)
    assert not found
    rates = dict(figures)
    assert rates[AS_IS] > 0.5
    assert rates["map undone (the first ids)"] < 0.5 * rates[AS_IS]
    # all hidden states of a two-layer target are fed, so none can be moved
    assert not [name for name in rates if name.startswith("feature")]


def test_a_map_in_another_order_than_the_rows_is_a_fault(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(KEPT.ids)
    drafter = tmp_path / "d"
    drafter.mkdir()
    for file in pair[0].iterdir():
        (drafter / file.name).write_bytes(file.read_bytes())
    edit(drafter, add={"d2t": order - np.arange(order.size)})
    found, figures = probe_drafter(subject(drafter, pair[1]), PROMPTS)
    (one,) = found
    assert one.name == "probe-map"
    assert one.said.what.startswith("map in ascending order: ")
    finding = Finding.of(one.name, one.said)
    assert finding is not None
    assert finding.severity is Severity.FAULT
    assert dict(figures)["map in ascending order"] > 0.5


def test_a_map_that_cannot_be_read_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    drafter = tmp_path / "d"
    drafter.mkdir()
    for file in pair[0].iterdir():
        (drafter / file.name).write_bytes(file.read_bytes())
    edit(drafter, add={"d2t": np.full(KEPT.size, -5)})
    (one,), figures = probe_drafter(subject(drafter, pair[1]), PROMPTS)
    assert "it cannot be drafted with" in one.said.what
    assert figures == ()


def counts(accepted: Sequence[int]) -> AcceptCounts:
    drafted = np.zeros(len(accepted), dtype=np.int64)
    drafted[-1] = sum(accepted)
    tokens = sum(n * (depth + 1) for depth, n in enumerate(accepted))
    return AcceptCounts(np.array(accepted), drafted, tokens)


@pytest.mark.parametrize(
    ("other", "better"),
    [([60, 20, 20], False), ([10, 20, 70], True), ([55, 22, 23], False), ([95, 4, 1], False)],
)
def test_only_what_chance_does_not_explain_is_a_fault(other: list[int], better: bool) -> None:
    counted = {AS_IS: counts([60, 20, 20]), "feature layers +1": counts(other)}
    found = list(module._judged(counted))
    assert [one.name for one in found] == (["probe-layers"] if better else [])


def test_layers_are_moved_in_the_config_alone(pair: tuple[Path, Path]) -> None:
    drafter = Checkpoint.open(pair[0])
    moved = module._with_layers(drafter, [1, 2, 3])
    assert moved.config["eagle_aux_hidden_state_layer_ids"] == [1, 2, 3]
    assert drafter.config["eagle_aux_hidden_state_layer_ids"] == [0, 1, 2]
    assert moved.tensors is drafter.tensors


def test_other_maps_are_possible_and_other() -> None:
    ids = np.array([2, 3, 9])
    found = module._other_maps(ids, 10)
    assert {name: other.tolist() for name, other in found.items()} == {
        "map undone (the first ids)": [0, 1, 2]
    }
    spread = module._other_maps(np.array([9, 3, 6]), 10)
    assert spread["map of ids in place of offsets"].tolist() == [9, 2, 4]
    assert spread["map in ascending order"].tolist() == [3, 6, 9]


def test_without_a_target_there_is_nothing_to_decode(pair: tuple[Path, Path]) -> None:
    drafter = Subject(pair[0], Form.CHECKPOINT, Checkpoint.open(pair[0]))
    with pytest.raises(DecodeError, match="give --target"):
        probe_drafter(drafter, PROMPTS)
