"""Maps: what proves that one holds ids, and where nothing is reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import K, V, specforge, target, trimmed
from tests.tiny import edit
from vocabtrim.pipeline.checks import maps
from vocabtrim.pipeline.checks.base import Said
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path, **changes: object) -> Subject:
    drafter = edit(path, **changes) if changes else path  # type: ignore[arg-type]
    return Subject(drafter, Form.CHECKPOINT, Checkpoint.open(drafter))


def found(find: Callable[[Subject], object], subject: Subject) -> list[Said]:
    return list(find(subject))  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def drafter(tmp_path: Path) -> Path:
    return specforge(tmp_path / "d")


def test_a_map_that_could_be_both_is_left_to_the_rows(tmp_path: Path, drafter: Path) -> None:
    either = {"d2t": np.arange(1, 2 * K, 2)}
    subject = looked(drafter, add=either, drop=["t2d"])
    (said,) = found(maps.ambiguous, subject)
    assert "--target" in said.effects[0].what
    # where a mask decides, there is nothing to say
    whole = specforge(tmp_path / "masked")
    ids = either["d2t"] + np.arange(K)
    masked = looked(whole, add=either | {"t2d": np.isin(np.arange(V), ids)})
    assert not found(maps.ambiguous, masked)


def test_a_borrowed_head_needs_no_map(tmp_path: Path) -> None:
    path = edit(trimmed(tmp_path / "t"), drop=["d2t", "t2d", "lm_head.weight"])
    path = edit(path, config={"draft_vocab_size": V})
    assert not found(maps.missing, looked(path))
    assert not found(maps.not_needed, looked(path))


def test_an_ordinary_model_has_no_map_to_miss(tmp_path: Path) -> None:
    assert not found(maps.missing, looked(target(tmp_path / "t")))


def test_the_name_of_a_map(drafter: Path) -> None:
    assert maps.misnamed_map(looked(drafter)) is None
    other = looked(drafter, add={"draft_id_to_target_id": np.zeros(3, np.int64)}, drop=["d2t"])
    assert maps.misnamed_map(other) == "draft_id_to_target_id"
