"""A GGUF drafter stays a file, and so does its target; everything else is a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_eagle3, tiny_target
from tests.tiny_gguf import tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.locate_pair import gguf_drafter, locate_pair


def test_a_gguf_drafter_and_its_target_stay_files(tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    directory = tiny_target(tmp_path / "t")
    assert locate_pair(str(drafter), str(target)) == (drafter, target)
    assert locate_pair(str(drafter), str(directory)) == (drafter, directory)
    assert locate_pair(str(drafter), None) == (drafter, None)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    assert gguf_drafter(str(tiny_gguf(tmp_path / "drafter.bin"))) == tmp_path / "drafter.bin"
    assert gguf_drafter(str(tiny_gguf_target(tmp_path / "eagle3.gguf"))) is None
    assert gguf_drafter("demo-eagle3") is None


def test_directories_are_found_as_ever(tmp_path: Path) -> None:
    drafter, target = tiny_eagle3(tmp_path / "d"), tiny_target(tmp_path / "t")
    assert locate_pair(str(drafter), str(target)) == (drafter, target)
    with pytest.raises(CheckpointError, match="neither a directory"):
        locate_pair(str(drafter), "nowhere")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged GGUF file"):
        locate_pair(str(path), None)
