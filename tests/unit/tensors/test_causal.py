"""What a causal LM holds, and what a step of it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, edit, in_bfloat16, numbers, raw_tensors, tiny_eagle3, tiny_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.causal import (
    causal_layout,
    has_causal_layout,
    stored_matrices,
    target_cost,
)
from vocabtrim.tensors.checkpoint import Checkpoint

EMBEDDING = "model.embed_tokens.weight"
MATRIX = V * H


def _parameters(directory: Path) -> int:
    return sum(numbers(raw).size for raw in raw_tensors(directory).values())


def test_a_tied_matrix_counts_once_and_is_read_as_the_head(tmp_path: Path) -> None:
    directory = tiny_target(tmp_path / "t")
    cost = target_cost(Checkpoint.open(directory))
    everything = _parameters(directory)
    assert cost.params == everything
    assert cost.head_params == MATRIX
    # Every weight once, and one row more for the lookup of the input token.
    assert cost.step_bytes == 4 * (everything + H)
    assert (cost.head_bytes, cost.cycle_bytes) == (4 * MATRIX, 0)


def test_of_an_untied_embedding_one_row_is_read(tmp_path: Path) -> None:
    directory = tiny_target(tmp_path / "t", tied=False)
    cost = target_cost(Checkpoint.open(directory))
    everything = _parameters(directory)
    assert cost.params == everything
    assert cost.step_bytes == 4 * (everything - MATRIX + H)


def test_bytes_follow_the_precision(tmp_path: Path) -> None:
    exact = target_cost(Checkpoint.open(tiny_target(tmp_path / "f32")))
    half = Checkpoint.open(in_bfloat16(tiny_target(tmp_path / "bf16")))
    assert target_cost(half).step_bytes * 2 == exact.step_bytes
    assert target_cost(half, itemsize=4) == exact


def test_a_stored_copy_of_a_tied_head_is_ignored(tmp_path: Path) -> None:
    directory = tiny_target(tmp_path / "t")
    expected = target_cost(Checkpoint.open(directory))
    embedding = numbers(raw_tensors(directory)[EMBEDDING])
    opened = Checkpoint.open(edit(directory, add={"lm_head.weight": embedding}))
    assert causal_layout(opened).tied
    assert target_cost(opened) == expected


def test_a_head_that_differs_from_the_embedding_is_a_head_whatever_the_config_says(
    tmp_path: Path,
) -> None:
    directory = tiny_target(tmp_path / "t")
    other = numbers(raw_tensors(directory)[EMBEDDING]).copy()
    other[-1, -1] += 1
    opened = Checkpoint.open(edit(directory, add={"lm_head.weight": other}))
    assert opened.config["tie_word_embeddings"] is True
    assert not causal_layout(opened).tied


@pytest.mark.parametrize("head", [np.zeros((V, H), np.int32), np.zeros((V, H + 1), np.float32)])
def test_a_head_of_another_type_or_shape_is_no_copy(tmp_path: Path, head: np.ndarray) -> None:
    directory = edit(
        tiny_target(tmp_path / "t"),
        add={"lm_head.weight": head, EMBEDDING: np.zeros((V, H), np.float32)},
    )
    assert not causal_layout(Checkpoint.open(directory)).tied


def test_a_config_that_is_silent_ties_where_no_head_is_stored(tmp_path: Path) -> None:
    directory = edit(tiny_target(tmp_path / "t"), forget=["tie_word_embeddings"])
    assert causal_layout(Checkpoint.open(directory)).tied


def test_a_missing_head_is_refused_where_the_config_denies_tying(tmp_path: Path) -> None:
    directory = edit(tiny_target(tmp_path / "t"), config={"tie_word_embeddings": False})
    with pytest.raises(CheckpointError, match=r"has no lm_head\.weight, and its config"):
        causal_layout(Checkpoint.open(directory))


def test_a_bias_belongs_to_the_head(tmp_path: Path) -> None:
    directory = tiny_target(tmp_path / "t", tied=False)
    before = target_cost(Checkpoint.open(directory))
    edit(directory, add={"lm_head.bias": np.zeros(V, np.float32)})
    after = target_cost(Checkpoint.open(directory))
    assert after.head_params == before.head_params + V
    assert after.step_bytes == before.step_bytes + 4 * V


def test_of_a_mixture_of_experts_the_routed_share_is_read(tmp_path: Path) -> None:
    directory = tiny_target(tmp_path / "t")
    before = target_cost(Checkpoint.open(directory))
    expert = np.zeros((8, 16), np.float32)
    experts = {f"model.layers.0.mlp.experts.{i}.up_proj.weight": expert for i in range(8)}
    edit(directory, add=experts, config={"num_experts": 8, "num_experts_per_tok": 2})
    after = target_cost(Checkpoint.open(directory))
    assert after.params == before.params + 8 * expert.size
    assert after.step_bytes == before.step_bytes + 2 * expert.nbytes


def test_of_a_model_that_sees_only_the_language_model_counts(tmp_path: Path) -> None:
    directory = tiny_target(tmp_path / "t")
    before = target_cost(Checkpoint.open(directory))
    tensors = {
        name.replace("model.", "model.language_model.", 1): numbers(raw)
        for name, raw in raw_tensors(directory).items()
    }
    edit(
        directory,
        drop=list(raw_tensors(directory)),
        add=tensors | {"model.vision_tower.patch.weight": np.zeros((9, 9), np.float32)},
        config={"text_config": {"vocab_size": V, "tie_word_embeddings": True}},
    )
    assert target_cost(Checkpoint.open(directory)) == before


def test_what_is_no_causal_lm(tmp_path: Path) -> None:
    assert has_causal_layout(Checkpoint.open(tiny_target(tmp_path / "t")))
    drafter = Checkpoint.open(tiny_eagle3(tmp_path / "d", own_embedding=True))
    assert not has_causal_layout(drafter)
    with pytest.raises(CheckpointError, match="it is no causal LM"):
        causal_layout(drafter)


def test_an_embedding_that_is_no_matrix(tmp_path: Path) -> None:
    directory = edit(tiny_target(tmp_path / "t"), add={EMBEDDING: np.zeros(5, np.float32)})
    with pytest.raises(CheckpointError, match=r"must be a matrix, found shape \[5\]"):
        causal_layout(Checkpoint.open(directory))


NAMES = {
    "GPT-NeoX": ("gpt_neox.embed_in.weight", "embed_out.weight"),
    "GPT-2": ("transformer.wte.weight", None),
    "InternLM2": ("model.tok_embeddings.weight", "output.weight"),
    "Falcon": ("transformer.word_embeddings.weight", "lm_head.weight"),
    "a model that also sees": (
        "model.language_model.embed_tokens.weight",
        "lm_head.weight",
    ),
}


@pytest.mark.parametrize("model", NAMES)
def test_matrices_under_the_names_of_other_models(tmp_path: Path, model: str) -> None:
    embedding, head = NAMES[model]
    directory = tiny_target(tmp_path / "t")
    matrix = numbers(raw_tensors(directory)[EMBEDDING])
    added = {embedding: matrix} | ({} if head is None else {head: matrix + 1})
    edit(directory, drop=[EMBEDDING], add=added, config={"tie_word_embeddings": head is None})
    layout = causal_layout(Checkpoint.open(directory))
    assert layout.embedding.name == embedding
    assert layout.head.name == (head or embedding)
    assert layout.tied is (head is None)


def test_the_bias_of_a_tied_head_is_found(tmp_path: Path) -> None:
    directory = edit(tiny_target(tmp_path / "t"), add={"lm_head.bias": np.zeros(V, np.float32)})
    layout = causal_layout(Checkpoint.open(directory))
    assert layout.tied
    assert layout.bias is not None
    assert layout.bias.name == "lm_head.bias"


def test_matrices_are_found_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny_target(tmp_path / "t")
    embedding = numbers(raw_tensors(directory)[EMBEDDING])
    opened = Checkpoint.open(edit(directory, add={"lm_head.weight": embedding}))
    monkeypatch.setattr(Checkpoint, "chunks", None)
    assert stored_matrices(opened).head.name == "lm_head.weight"


def test_a_head_that_is_packed_only_is_not_taken_for_tied(tmp_path: Path) -> None:
    packed = {"lm_head.qweight": np.zeros((4, V), np.int32)}
    directory = edit(tiny_target(tmp_path / "t"), add=packed, forget=["tie_word_embeddings"])
    with pytest.raises(CheckpointError, match=r"its head is packed \(lm_head\.qweight"):
        causal_layout(Checkpoint.open(directory))
