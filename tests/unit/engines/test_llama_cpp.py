"""Reading back as llama.cpp reads: ids as they stand, three layers, rows by the map."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import IDS, K, gguf_drafter
from tests.tiny_gguf import tiny_gguf
from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Container
from vocabtrim.engines.llama_cpp import PLUGIN


def test_a_reduced_drafter(tmp_path: Path) -> None:
    read = PLUGIN.read_back(gguf_drafter(tmp_path / "d"), Container.GGUF)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()
    assert (read.rows, read.layers) == (K, (2, 4, 5))


def test_a_head_that_is_the_targets(tmp_path: Path) -> None:
    read = PLUGIN.read_back(gguf_drafter(tmp_path / "d", head=None, ids=None), Container.GGUF)
    assert (read.ids, read.rows) == (None, None)


def test_other_architectures_state_no_layers(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "x.gguf", head="F16", ids=[3, 7], architecture="dflash")
    assert PLUGIN.read_back(path, Container.GGUF).layers is None


def test_what_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a row of output\.weight for each entry"):
        PLUGIN.read_back(gguf_drafter(tmp_path / "a", head=None), Container.GGUF)
    path = gguf_drafter(tmp_path / "b", more=lambda w: w.add_array("eagle3.target_layers", [1, 2]))
    with pytest.raises(CheckpointError, match="feeds EAGLE-3 3 layers"):
        PLUGIN.read_back(path, Container.GGUF)


def test_the_converter_goes_by_k() -> None:
    assert (
        PLUGIN.config({"vocab_size": 9}, Container.FLAT, owns_head=False)["draft_vocab_size"] == 9
    )
    changed = PLUGIN.config(
        {"vocab_size": 9, "draft_vocab_size": 4}, Container.FLAT, owns_head=True
    )
    assert changed["draft_vocab_size"] == 4
