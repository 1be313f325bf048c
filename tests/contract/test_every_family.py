"""What every drafter family must do, the built-in ones and those of third parties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, raw_tensors, tiny_target
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import FAMILIES, DrafterFamily, family_of
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import Checkpoint

PART = DraftVocab(np.arange(1, V, 2), V)


@pytest.fixture(params=FAMILIES.names())
def family(request: pytest.FixtureRequest) -> DrafterFamily:
    found: DrafterFamily = FAMILIES.load(request.param)
    assert found.name == request.param
    return found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tiny_target(tmp_path / "target")


@pytest.fixture
def drafter(tmp_path: Path, family: DrafterFamily) -> Path:
    family.tiny_checkpoint(tmp_path / "drafter", vocab_size=V, hidden=H, seed=7)
    return tmp_path / "drafter"


def test_its_summary_is_one_line(family: DrafterFamily) -> None:
    assert family.summary
    assert "\n" not in family.summary
    assert len(family.summary) < 100


def test_it_alone_recognises_its_own_drafters(family: DrafterFamily, drafter: Path) -> None:
    assert family_of(Checkpoint.open(drafter)).name == family.name


def test_a_tiny_drafter_follows_its_seed(
    family: DrafterFamily, drafter: Path, tmp_path: Path
) -> None:
    for name, seed in (("same", 7), ("other", 8)):
        family.tiny_checkpoint(tmp_path / name, vocab_size=V, hidden=H, seed=seed)
    assert raw_tensors(tmp_path / "same") == raw_tensors(drafter)
    assert raw_tensors(tmp_path / "other") != raw_tensors(drafter)


def test_an_untrimmed_drafter_drafts_over_every_id(
    family: DrafterFamily, drafter: Path, target: Path
) -> None:
    head = family.head(Checkpoint.open(drafter), Checkpoint.open(target))
    assert family.vocab_size(Checkpoint.open(drafter)) == V
    assert head.held.is_full
    assert head.weight.shape == (V, H)


def test_only_a_drafter_that_needs_the_target_asks_for_it(
    family: DrafterFamily, drafter: Path, target: Path
) -> None:
    opened = Checkpoint.open(drafter)
    head = family.head(opened, Checkpoint.open(target))
    assert family.needs_target(opened) == head.origin.of_target


def test_trimming_reads_fewer_bytes_and_keeps_the_rest(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path
) -> None:
    source, verifier = Checkpoint.open(drafter), Checkpoint.open(target)
    before, head = family.cost(source, verifier), family.head(source, verifier)
    trim(drafter, PART, tmp_path / "out", target=target)
    out = Checkpoint.open(tmp_path / "out")
    after = family.cost(out, verifier)
    assert family_of(out).name == family.name
    assert family.head(out, None).held == PART
    assert out.config["vocab_size"] == V
    row = head.weight.nbytes // V
    assert before.step_bytes - after.step_bytes == (V - PART.size) * row
    assert before.params - after.params == (V - PART.size) * H
    kept = head.checkpoint.rows(head.weight.name)[PART.ids]
    assert out.rows("lm_head.weight").tobytes() == kept.tobytes()
    written, original = raw_tensors(out.path), raw_tensors(drafter)
    assert {name: written[name] for name in original} == original
    assert written.keys() - original.keys() == {"lm_head.weight", "d2t", "t2d"}


def test_a_trimmed_drafter_is_trimmed_again_and_grows_no_ids(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path
) -> None:
    trim(drafter, PART, tmp_path / "once", target=target)
    less = DraftVocab(PART.ids[::2], V)
    trim(tmp_path / "once", less, tmp_path / "twice")
    trim(drafter, less, tmp_path / "direct", target=target)
    assert raw_tensors(tmp_path / "twice") == raw_tensors(tmp_path / "direct")
    assert (tmp_path / "twice/config.json").read_text() == (
        tmp_path / "direct/config.json"
    ).read_text()
