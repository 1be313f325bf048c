"""Tensors and kept rows against the safetensors library's own reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import V, edit, in_bfloat16, tiny_eagle3, tiny_lm, tiny_target
from vocabtrim.core.errors import CheckpointError, VocabError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.weights import read_head, read_tensor, read_tensors
from vocabtrim.families import eagle3, independent
from vocabtrim.tensors.checkpoint import Checkpoint

FILE = "model.safetensors"
PART = DraftVocab(np.array([0, 3, 4, 50, 95]), V)


def in_float16(directory: Path) -> Path:
    tensors = {name: one.half() for name, one in load_file(directory / FILE).items()}
    save_file(tensors, directory / FILE)
    return directory


@pytest.mark.parametrize("stored", [lambda path: path, in_bfloat16, in_float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_is_what_the_library_reads(
    tmp_path: Path, stored: object, dtype: torch.dtype
) -> None:
    assert callable(stored)
    directory = stored(tiny_lm(tmp_path))
    expected = load_file(directory / FILE)
    found = read_tensors(Checkpoint.open(directory), dtype)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, expected[name].to(dtype))


def test_tensors_left_out(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(tiny_eagle3(tmp_path, ids=range(0, V, 2)))
    left_out = frozenset({"d2t", "t2d", "norm.weight"})
    found = read_tensors(checkpoint, torch.float32, without=left_out)
    assert found.keys() == checkpoint.tensors.keys() - left_out


@pytest.mark.parametrize("stored", [lambda path: path, in_bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_kept_rows_are_those_of_the_library(tmp_path: Path, stored: object, tied: bool) -> None:
    assert callable(stored)
    directory = stored(tiny_lm(tmp_path, tied=tied))
    name = "model.embed_tokens.weight" if tied else "lm_head.weight"
    source = independent.PLUGIN.head(Checkpoint.open(directory), None)
    head = read_head(source, PART, torch.float32)
    expected = load_file(directory / FILE)[name].float()[torch.from_numpy(PART.ids.copy())]
    assert torch.equal(head.weight, expected)
    assert head.vocab == PART
    assert head.bias is None


def test_the_bias_follows_its_rows(tmp_path: Path) -> None:
    bias = np.arange(V, dtype=np.float32)
    directory = edit(tiny_lm(tmp_path, tied=False), add={"lm_head.bias": bias})
    source = independent.PLUGIN.head(Checkpoint.open(directory), None)
    head = read_head(source, PART, torch.float32)
    assert head.bias is not None
    assert head.bias.tolist() == PART.ids.tolist()


def test_rows_of_a_head_that_is_reduced_already(tmp_path: Path) -> None:
    directory = tiny_eagle3(tmp_path / "d", ids=range(0, V, 3))
    target = Checkpoint.open(tiny_target(tmp_path / "t"))
    source = eagle3.PLUGIN.head(Checkpoint.open(directory), target)
    wished = DraftVocab(np.array([3, 93]), V)
    rows = load_file(directory / FILE)["lm_head.weight"]
    assert torch.equal(read_head(source, wished, torch.float32).weight, rows[[1, 31]])
    with pytest.raises(VocabError, match="3 of 5 ids have no row in the head"):
        read_head(source, PART, torch.float32)


def test_what_is_not_decoded_with_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(tiny_eagle3(tmp_path, ids=range(0, V, 2)))
    with pytest.raises(CheckpointError, match="d2t is I64, and decoding reads F32, F16, BF16"):
        read_tensors(checkpoint, torch.float32)
    with pytest.raises(CheckpointError, match="no tensor nothing"):
        read_tensor(checkpoint, "nothing", torch.float32)
