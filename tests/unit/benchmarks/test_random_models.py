"""Random models have the shapes of real ones, in types that can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from benchmarks.random_models import (
    BLOCKS,
    SHAPES,
    Shape,
    blocks,
    drafter_matrices,
    target_matrices,
    write_drafter,
    write_target,
)
from tests.tiny_gguf import read_gguf
from vocabtrim.tensors.gguf_drafter import drafter_kind, gguf_head
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.gguf_target import gguf_causal_cost

TINY = Shape("Tiny", "qwen3", 64, 4, 4, 2, 32, 96, 640)

PARAMETERS = {"Llama-3.2-1B": 1236, "Qwen3-0.6B": 596, "Llama-3.2-3B": 3213}
"""Millions, as published, with the embedding counted once."""


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_those_of_the_models(name: str) -> None:
    shape = SHAPES[name]
    params = sum(rows * columns for _, rows, columns in target_matrices(shape))
    params -= shape.vocab_size * shape.hidden
    assert params / 1e6 == pytest.approx(PARAMETERS[name], rel=2e-3)


@pytest.mark.parametrize("kind", BLOCKS)
def test_values_have_mean_0_and_the_spread_of_their_width(kind: str) -> None:
    data = blocks(np.random.default_rng(1), 256, 1024, kind)
    values = dequantize(data, GGMLQuantizationType[kind])
    assert values.shape == (256, 1024)
    # the mean of 262,144 values of spread 1/32 is within 5 of its own deviations
    assert abs(values.mean()) < 5 * (1 / 32) / 512
    assert values.std() * 32 == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_pair_is_read_as_what_it_is(tmp_path: Path, kind: str) -> None:
    write_target(tmp_path / "t.gguf", TINY, kind, seed=1)
    write_drafter(tmp_path / "full.gguf", TINY, kind, TINY.vocab_size, seed=2)
    write_drafter(tmp_path / "cut.gguf", TINY, kind, 64, seed=3)
    target = open_gguf(tmp_path / "t.gguf")
    assert target.vocab_size == TINY.vocab_size
    cost = gguf_causal_cost(target)
    assert cost.head_params == 640 * 64
    for name, rows in (("full", 640), ("cut", 64)):
        drafter = open_gguf(tmp_path / f"{name}.gguf")
        kind_found = drafter_kind(drafter)
        assert kind_found is not None
        head = gguf_head(drafter, kind_found, target)
        assert (head.held.size, head.weight.shape) == (rows, (rows, 64))
        matrices = drafter_matrices(TINY, rows)
        assert {name for name, _, _ in matrices} <= {
            name.removesuffix(".weight") for name in drafter.tensors
        }
    read = read_gguf(tmp_path / "cut.gguf")
    assert read.metadata["eagle3.target_layers"] == [2, 2, 1]
    assert read.types["output.weight"] == kind


def test_head_and_embedding_are_drawn_apart(tmp_path: Path) -> None:
    write_target(tmp_path / "t.gguf", TINY, "Q8_0", seed=1)
    data = read_gguf(tmp_path / "t.gguf").data
    one, other = (
        dequantize(data[name], GGMLQuantizationType.Q8_0).ravel()
        for name in ("output.weight", "token_embd.weight")
    )
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_drafter(tmp_path / name, TINY, "Q4_0", 64, seed=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
