"""Masks against maps, and where a missing mask is no fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.clean_drafters import IDS, V, specforge, speculators
from tests.tiny import edit
from vocabtrim.pipeline.checks.base import Finding, Severity
from vocabtrim.pipeline.checks.masks import mask_differs, mask_missing, mask_shape
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path) -> Subject:
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path))


def test_a_mask_that_agrees(tmp_path: Path) -> None:
    subject = looked(specforge(tmp_path / "d"))
    assert not list(mask_differs(subject))
    assert not list(mask_shape(subject))
    assert not list(mask_missing(subject))


def test_one_id_is_enough_to_differ(tmp_path: Path) -> None:
    mask = np.isin(np.arange(V), IDS)
    mask[[IDS[0], 0]] = mask[[0, IDS[0]]]
    (said,) = mask_differs(looked(edit(specforge(tmp_path / "d"), add={"t2d": mask})))
    assert said.what.startswith("t2d marks 64 ids and d2t leads to 64")


def test_ids_in_place_of_offsets_have_a_check_of_their_own(tmp_path: Path) -> None:
    assert not list(mask_differs(looked(edit(specforge(tmp_path / "d"), add={"d2t": IDS}))))


def test_a_missing_mask_matters_in_one_layout(tmp_path: Path) -> None:
    for build, severity in ((specforge, Severity.NOTE), (speculators, Severity.FAULT)):
        path = edit(build(tmp_path / build.__name__), drop=["t2d"])
        (said,) = mask_missing(looked(path))
        finding = Finding.of("mask-missing", said)
        assert finding is not None
        assert finding.severity is severity


def test_bytes_are_a_mask_and_numbers_are_not(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    as_bytes = np.isin(np.arange(V), IDS).astype(np.uint8)
    assert not list(mask_shape(looked(edit(path, add={"t2d": as_bytes}))))
    assert list(mask_shape(looked(edit(path, add={"t2d": as_bytes.astype(np.int64)}))))
