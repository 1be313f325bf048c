"""Rows against the target's: right, trained, unlike, permuted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import IDS, K, V, specforge, target
from tests.tiny import edit, numbers, raw_tensors
from vocabtrim.pipeline.checks.base import Finding, Severity
from vocabtrim.pipeline.checks.rows import against_target, compare
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.tensors.checkpoint import Checkpoint


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A drafter's directory, its target beside it, and the target's head."""
    verifier = target(tmp_path / "target")
    specforge(tmp_path / "d")
    return tmp_path / "d", numbers(raw_tensors(verifier)["lm_head.weight"])


def looked(drafter: Path, head: np.ndarray, **maps: np.ndarray) -> Subject:
    edit(drafter, add={"lm_head.weight": head.astype(np.float32), **maps})
    verifier = Verifier(Checkpoint.open(drafter.parent / "target"))
    return Subject(drafter, Form.CHECKPOINT, Checkpoint.open(drafter), target=verifier)


def judged(subject: Subject) -> Finding | None:
    found = [Finding.of("rows", said) for said in against_target(subject)]
    return found[0] if found else None


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_sliced_and_trained_heads_are_right(pair: tuple[Path, np.ndarray], noise: float) -> None:
    drafter, head = pair
    trained = head[IDS] + np.random.default_rng(0).normal(0, noise, (K, 32))
    finding = judged(looked(drafter, trained))
    assert finding is not None
    assert finding.severity is Severity.NOTE


def test_a_common_direction_does_not_confuse(pair: tuple[Path, np.ndarray]) -> None:
    drafter, head = pair
    finding = judged(looked(drafter, 3 * head[IDS]))
    assert finding is not None
    assert finding.severity is Severity.NOTE


def test_a_head_of_other_origin_says_nothing(pair: tuple[Path, np.ndarray]) -> None:
    drafter, _ = pair
    subject = looked(drafter, np.random.default_rng(1).normal(0, 0.2, (K, 32)))
    compared = compare(subject)
    assert compared is not None
    assert not compared.related
    assert judged(subject) is None


def test_other_widths_say_nothing(pair: tuple[Path, np.ndarray]) -> None:
    drafter, _ = pair
    assert compare(looked(drafter, np.ones((K, 16)))) is None


def test_a_permuted_head_is_a_fault_and_a_few_rows_a_loss(pair: tuple[Path, np.ndarray]) -> None:
    drafter, head = pair
    generator = np.random.default_rng(2)
    permuted = judged(looked(drafter, head[generator.permutation(IDS)]))
    assert permuted is not None
    assert permuted.severity is Severity.FAULT
    assert permuted.what.endswith("its rows and its ids are in different orders")
    some = IDS.copy()
    some[:16] = np.roll(IDS[:16], 1)
    few = judged(looked(drafter, head[some]))
    assert few is not None
    assert few.severity is Severity.LOSS
    assert "16 are not nearest" in few.what


def test_rows_in_the_order_of_the_mask(pair: tuple[Path, np.ndarray]) -> None:
    drafter, head = pair
    order = np.random.default_rng(3).permutation(IDS)
    finding = judged(looked(drafter, head[IDS], d2t=order - np.arange(K)))
    assert finding is not None
    assert "its rows are in ascending order of ids and its map is not" in finding.what


def test_ids_in_place_of_offsets_are_told_by_the_rows(pair: tuple[Path, np.ndarray]) -> None:
    drafter, head = pair
    spread = np.arange(0, 2 * K, 2)
    mask = np.isin(np.arange(V), spread + np.arange(K))
    finding = judged(looked(drafter, head[spread], d2t=spread, t2d=mask))
    assert finding is not None
    assert "its map holds ids in place of offsets" in finding.what


def test_rows_that_the_target_has_twice_are_at_their_place(pair: tuple[Path, np.ndarray]) -> None:
    drafter, head = pair
    double = head.copy()
    double[IDS + 1] = double[IDS]
    edit(drafter.parent / "target", add={"lm_head.weight": double})
    finding = judged(looked(drafter, double[IDS]))
    assert finding is not None
    assert finding.severity is Severity.NOTE


def test_ids_beyond_the_target_are_left_to_others(pair: tuple[Path, np.ndarray]) -> None:
    drafter, head = pair
    ids = IDS.copy()
    ids[-1] = V + 5
    compared = compare(looked(drafter, head[IDS], d2t=ids - np.arange(K)))
    assert compared is not None
    assert compared.rows.size == K - 1
