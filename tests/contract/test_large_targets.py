"""Beside a target of 140 GB only the kept rows of its head are read.

The targets are files of holes: real headers, sizes and offsets, nothing on disk.
Every byte that is asked of them goes through one function, which is counted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import edit, tiny_eagle3, tiny_target, write_sparse
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import FAMILIES
from vocabtrim.pipeline.inspect import inspect
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors import checkpoint as module
from vocabtrim.tensors.tensor_info import TensorInfo

V, H, K = 128_256, 4096, 512
ROW = 2 * H
IDS = DraftVocab(np.sort(np.random.default_rng(0).permutation(V)[:K]), V)
HOLES = {"model.layers.0.mlp.experts.weight": ("BF16", (70_000_000, 1000))}
MATRICES = {
    "model.embed_tokens.weight": ("BF16", (V, H)),
    "lm_head.weight": ("BF16", (V, H)),
}


class Asked(np.ndarray):  # type: ignore[type-arg]
    """Bytes of a file that remember how many of them were asked for."""

    counted: dict[str, int]
    name: str

    def __array_finalize__(self, parent: Any) -> None:
        self.name = getattr(parent, "name", "")

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Asked.counted[self.name] = Asked.counted.get(self.name, 0) + found.nbytes
        return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the bytes asked of each tensor of a target, by its name."""
    mapped = module._map

    def watched(info: TensorInfo) -> Any:
        data = mapped(info)
        if "target" not in info.file.parts[-2]:
            return data
        seen = data.view(Asked)
        seen.name = info.name
        # mapped and not asked for is still worth knowing
        Asked.counted.setdefault(info.name, 0)
        return seen

    Asked.counted = {}
    monkeypatch.setattr(module, "_map", watched)
    return Asked.counted


def large(directory: Path, more: dict[str, tuple[str, tuple[int, ...]]], **config: Any) -> Path:
    tiny_target(directory, tied=False)
    edit(directory, config={"vocab_size": V, "hidden_size": H, **config})
    write_sparse(directory / "model.safetensors", MATRICES | HOLES | more)
    assert (directory / "model.safetensors").stat().st_size > 140e9
    return directory


@pytest.mark.parametrize("tied", [False, True])
def test_a_drafter_takes_its_rows_and_nothing_else(
    tmp_path: Path, asked: dict[str, int], tied: bool
) -> None:
    target = large(tmp_path / "target", {}, tie_word_embeddings=tied)
    drafter = tiny_eagle3(tmp_path / "drafter", hidden=32)
    edit(drafter, config={"vocab_size": V, "hidden_size": H, "draft_vocab_size": V})
    result = trim(drafter, IDS, tmp_path / "out", target=target)
    assert (result.K, result.head_bytes) == (K, K * ROW)
    assert asked == {"lm_head.weight": K * ROW}


def test_a_sidecar_takes_its_rows_and_nothing_else(tmp_path: Path, asked: dict[str, int]) -> None:
    layer = {
        "mtp.fc.weight": ("BF16", (H, 2 * H)),
        "mtp.layers.0.mlp.up_proj.weight": ("BF16", (4 * H, H)),
    }
    target = large(tmp_path / "target", layer)
    result = trim(target, IDS, tmp_path / "out", family="mtp")
    assert result.K == K
    assert asked == {"lm_head.weight": K * ROW}
    written = (tmp_path / "out/model.safetensors").stat().st_size
    assert written < K * ROW + 8 * K + V + 1024


def test_looking_at_it_reads_no_weights(tmp_path: Path, asked: dict[str, int]) -> None:
    target = large(tmp_path / "target", {})
    assert inspect(str(target)).facts["V"] == V
    assert set(asked.values()) <= {0}


def test_every_family_is_recognised_without_reading(tmp_path: Path, asked: dict[str, int]) -> None:
    opened = module.Checkpoint.open(large(tmp_path / "target", {}))
    for family in FAMILIES.load_all().values():
        family.matches(opened)
    assert asked == {}
