"""Reading back as vLLM reads: rows, ids, layers, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import IDS, LAYERS, K, V, modelopt, specforge, whole
from tests.tiny import edit
from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Container
from vocabtrim.engines.vllm import PLUGIN


def test_a_reduced_drafter(tmp_path: Path) -> None:
    read = PLUGIN.read_back(specforge(tmp_path / "d"), Container.FLAT)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()
    assert (read.rows, read.layers) == (K, None)


def test_the_outer_list_of_layers_wins_and_the_inner_is_not_shifted(tmp_path: Path) -> None:
    path = modelopt(tmp_path / "d")
    assert PLUGIN.read_back(path, Container.FLAT).layers == (1, 3, 4)
    edit(path, config={LAYERS: [2, 4, 5]})
    assert PLUGIN.read_back(path, Container.FLAT).layers == (2, 4, 5)


def test_all_rows_have_no_map(tmp_path: Path) -> None:
    path = whole(tmp_path / "d")
    assert PLUGIN.read_back(path, Container.FLAT).ids is None
    edit(path, add={"d2t": np.zeros(V, np.int64)})
    with pytest.raises(CheckpointError, match="vLLM refuses a d2t beside a head of all 256 rows"):
        PLUGIN.read_back(path, Container.FLAT)


def test_a_head_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = edit(specforge(tmp_path / "d"), config={"draft_vocab_size": 2 * K})
    with pytest.raises(CheckpointError, match="64 rows, its config says 128"):
        PLUGIN.read_back(path, Container.FLAT)


def test_the_command_serves_both() -> None:
    words = shlex.split(PLUGIN.command(Path("out"), "org/t", PLUGIN.cells[0]))
    assert words[:3] == ["vllm", "serve", "org/t"]
    assert json.loads(words[-1])["model"] == "out"
    assert json.loads(words[-1])["method"] == "eagle3"
