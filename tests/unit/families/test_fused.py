"""Drafters on the target's features: whose head it is, and what a step costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, edit, tiny_eagle3, tiny_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.families.fused import NOT_TRUNK, Fused, borrowed_head, check_whole
from vocabtrim.tensors.checkpoint import Checkpoint

IDS = list(range(0, V, 3))


@pytest.fixture
def target(tmp_path: Path) -> Checkpoint:
    return Checkpoint.open(tiny_target(tmp_path / "target"))


def test_a_head_is_its_own_or_else_the_targets(tmp_path: Path, target: Checkpoint) -> None:
    own = Checkpoint.open(tiny_eagle3(tmp_path / "own", ids=IDS))
    bare = Checkpoint.open(tiny_eagle3(tmp_path / "bare"))
    family = Fused()
    assert not family.needs_target(own)
    assert family.needs_target(bare)
    assert family.head(own, None).held.ids.tolist() == IDS
    assert family.head(bare, target).checkpoint is target
    assert family.vocab_size(own) == family.vocab_size(bare) == V
    with pytest.raises(CheckpointError, match="its head is the target's: give --target"):
        borrowed_head(bare, None)


def test_fewer_ids_without_a_head_are_refused(tmp_path: Path) -> None:
    bare = tiny_eagle3(tmp_path / "bare")
    check_whole(Checkpoint.open(bare))
    edit(bare, config={"draft_vocab_size": V // 2})
    with pytest.raises(CheckpointError, match="drafts over 48 of 96 ids but has no lm_head"):
        check_whole(Checkpoint.open(bare))


def test_what_runs_once_a_cycle_is_the_familys_to_say(tmp_path: Path, target: Checkpoint) -> None:
    class Once(Fused):
        once = ("fc.",)

    drafter = Checkpoint.open(tiny_eagle3(tmp_path / "d", ids=IDS))
    always, once = Fused().cost(drafter, target), Once().cost(drafter, target)
    fusion = drafter.tensors["fc.weight"].nbytes
    assert (always.cycle_bytes, once.cycle_bytes) == (0, fusion)
    assert always.step_bytes - once.step_bytes == fusion
    assert always.params == once.params
    trunk = sum(i.n_params for n, i in drafter.tensors.items() if n not in NOT_TRUNK)
    assert always.params == trunk + V * H + len(IDS) * H


def test_an_empty_fusion_layer_is_one_sentence(tmp_path: Path) -> None:
    bare = edit(tiny_eagle3(tmp_path / "d"), add={"fc.weight": np.zeros(0, np.float32)})
    with pytest.raises(CheckpointError, match=r"fc\.weight is empty"):
        Fused().cost(Checkpoint.open(bare), None)
