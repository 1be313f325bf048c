"""What a GGUF drafter says of itself, with its target and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_target
from tests.tiny_gguf import H, V, tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.fingerprints import fingerprint_at
from vocabtrim.pipeline.inspect import BORROWED, NO_MAPS, inspect
from vocabtrim.pipeline.inspect_gguf import inspect_gguf
from vocabtrim.pipeline.trim import trim

ROW = H // 32 * 34
"""Bytes of a row in Q8_0."""


def test_a_reduced_head_and_its_map(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", ids=[9, 3, 5])
    result = inspect(str(drafter))
    assert result.kind == "drafter"
    assert result.facts["family"] == "eagle3"
    assert (result.facts["V"], result.facts["K"]) == (V, 3)
    assert (result.facts["dtype"], result.facts["head_bytes"]) == ("Q8_0", 3 * ROW)
    assert result.facts["mapping"] == "d2t of absolute ids, not in ascending order: 3 to 9"
    assert result.facts["tokenizer"] == fingerprint_at(drafter)
    assert result.text["trimmed by"] == "nothing of ours"


def test_a_head_of_the_target_is_assumed_or_looked_up(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf")
    alone = inspect(str(drafter))
    assert alone.facts["head_source"] == BORROWED
    assert alone.facts["mapping"] == NO_MAPS
    assert (alone.facts["dtype"], alone.facts["head_bytes"]) == (None, 4 * V * H)
    assert "if the target's precision is the drafter's" in alone.text["LM head"]
    beside = inspect(str(drafter), target=str(tiny_gguf_target(tmp_path / "t.gguf")))
    assert beside.facts["head_source"] == "the target's tied embedding"
    assert (beside.facts["dtype"], beside.facts["head_bytes"]) == ("Q8_0", V * ROW)
    assert beside.facts["c"] is None


def test_a_directory_as_target_tells_the_relative_cost(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf")
    target = tiny_target(tmp_path / "t", hidden=H)
    facts = inspect(str(drafter), target=str(target)).facts
    assert facts["dtype"] == "F32"
    assert facts["c"] > 0
    assert facts["c_read"] > 0


def test_what_we_trimmed_remembers_what_it_was(tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    kept = DraftVocab(np.arange(0, V, 2), V)
    trim(drafter, kept, tmp_path / "out.gguf", target=target)
    said = inspect(str(tmp_path / "out.gguf")).text["trimmed by"]
    assert f"from {V} rows, draft step " in said
    assert said.endswith("memory 0.0 MB added")


def test_what_is_no_drafter_is_refused(tmp_path: Path) -> None:
    trunk = {"blk.0.attn_norm.weight": np.ones(H, np.float32)}
    path = tiny_gguf(tmp_path / "d.gguf", architecture="qwen35", add=trunk)
    with pytest.raises(CheckpointError):
        inspect_gguf(str(path), None)
