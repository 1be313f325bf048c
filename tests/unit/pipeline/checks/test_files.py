"""Weight files that one loader takes and another does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clean_drafters import in_bin, sharded, specforge
from tests.tiny import as_bin
from vocabtrim.pipeline.checks.files import stale_index, stray, two_formats
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path) -> Subject:
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path))


@pytest.mark.parametrize("build", [specforge, sharded, in_bin])
def test_one_set_of_files_is_no_finding(tmp_path: Path, build: object) -> None:
    subject = looked(build(tmp_path / "d"))  # type: ignore[operator]
    assert not [*stale_index(subject), *stray(subject), *two_formats(subject)]


def test_an_index_that_names_the_one_file_is_no_finding(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    names = Checkpoint.open(path).tensors
    index = {"weight_map": dict.fromkeys(names, "model.safetensors")}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not list(stale_index(looked(path)))


def test_an_index_of_files_that_are_gone(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    index = {"weight_map": {"d2t": "model-00001-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (said,) = stale_index(looked(path))
    assert "misses model-00001-of-00002.safetensors" in said.effects[0].what


def test_a_damaged_index_that_nobody_needs(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    (path / "model.safetensors.index.json").write_text("{")
    assert len(list(stale_index(looked(path)))) == 1


def test_a_bin_alone_is_one_format(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    weights = (path / "model.safetensors").read_bytes()
    as_bin(path)
    assert not list(two_formats(looked(path)))
    (path / "model.safetensors").write_bytes(weights)
    (said,) = two_formats(looked(path))
    assert said.what == "pytorch_model.bin lies beside its safetensors"
