"""EAGLE-1 and EAGLE-2: told from EAGLE-3, and trimmed under a name that nobody loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, edit, numbers, raw_tensors, tiny_eagle3, tiny_lm, tiny_target
from vocabtrim.core.errors import CheckpointError, DecodeError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import family_of
from vocabtrim.families.eagle import PLUGIN
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import HeadOrigin

PART = DraftVocab(np.arange(0, V, 3), V)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tiny_target(tmp_path / "target")


@pytest.fixture
def drafter(tmp_path: Path) -> Path:
    PLUGIN.tiny_checkpoint(tmp_path / "drafter")
    return tmp_path / "drafter"


def test_what_looks_like_it_but_is_not(drafter: Path, tmp_path: Path) -> None:
    assert PLUGIN.matches(Checkpoint.open(drafter))
    others = [
        tiny_eagle3(tmp_path / "3"),
        tiny_lm(tmp_path / "lm"),
        edit(drafter, config={"hidden_size": H // 2}),
    ]
    assert not any(PLUGIN.matches(Checkpoint.open(directory)) for directory in others)


def test_a_feature_norm_makes_it_another_drafter(drafter: Path) -> None:
    edit(drafter, add={"hidden_norm.weight": np.ones(H, np.float32)})
    assert not PLUGIN.matches(Checkpoint.open(drafter))


def test_the_head_is_the_targets_until_it_has_one(drafter: Path, target: Path) -> None:
    head = PLUGIN.head(Checkpoint.open(drafter), Checkpoint.open(target))
    assert head.origin is HeadOrigin.TARGET_EMBEDDING
    with pytest.raises(CheckpointError, match="so its head is the target's: give --target"):
        PLUGIN.head(Checkpoint.open(drafter), None)
    own = np.zeros((V, H), np.float32)
    edit(drafter, add={"lm_head.weight": own})
    assert PLUGIN.head(Checkpoint.open(drafter), None).origin is HeadOrigin.OWN


def test_a_trimmed_one_is_refused_by_stock_loaders(
    drafter: Path, target: Path, tmp_path: Path
) -> None:
    edit(target, config={"final_logit_softcapping": 30.0})
    trim(drafter, PART, tmp_path / "out", target=target)
    config = dict(Checkpoint.open(tmp_path / "out").config)
    assert config["architectures"] == ["TrimmedLlamaForCausalLM"]
    assert (config["vocab_size"], config["draft_vocab_size"]) == (V, PART.size)
    assert config["final_logit_softcapping"] == 30.0
    assert family_of(Checkpoint.open(tmp_path / "out")).name == "eagle"


def test_fusion_is_read_in_every_step(drafter: Path, target: Path) -> None:
    trunk = sum(numbers(raw).size for raw in raw_tensors(drafter).values())
    opened = Checkpoint.open(drafter)
    expected = StepCost(
        params=trunk + 2 * V * H,
        head_params=V * H,
        step_bytes=4 * (trunk + V * H + H),
        head_bytes=4 * V * H,
    )
    assert PLUGIN.cost(opened, Checkpoint.open(target)) == expected
    assert PLUGIN.cost(opened, None) == expected
    assert PLUGIN.cost(opened, None, itemsize=2).step_bytes * 2 == expected.step_bytes


def test_one_that_says_it_is_reduced_but_is_not_is_refused(drafter: Path) -> None:
    edit(drafter, config={"draft_vocab_size": 7})
    with pytest.raises(CheckpointError, match="drafts over 7 of 96 ids but has no lm_head"):
        PLUGIN.cost(Checkpoint.open(drafter), None)


def test_it_is_not_decoded_here(drafter: Path, target: Path) -> None:
    opened = Checkpoint.open(drafter)
    with pytest.raises(DecodeError, match="not decoded here; SGLang may"):
        PLUGIN.load_drafter(opened, Checkpoint.open(target), None, None)
