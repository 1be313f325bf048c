"""Where the head of a GGUF drafter is, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_target
from tests.tiny_gguf import H, V, tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import CheckpointError, VocabError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_drafter import (
    GgufHead,
    GgufKind,
    drafter_kind,
    gguf_cost,
    gguf_head,
    needs_target,
)
from vocabtrim.tensors.gguf_model import GgufModel, open_gguf
from vocabtrim.tensors.head_source import HeadOrigin

F32 = np.float32
MTP_BLOCK = {"blk.4.nextn.eh_proj.weight": np.ones((H, 2 * H), F32)}


def opened(path: Path) -> tuple[GgufModel, GgufKind]:
    model = open_gguf(path)
    kind = drafter_kind(model)
    assert kind is not None
    return model, kind


def head_of(path: Path, target: Path | None = None) -> GgufHead:
    model, kind = opened(path)
    verifier = None if target is None else open_gguf(target)
    return gguf_head(model, kind, verifier)


def test_a_head_of_its_own(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf", head="Q8_0")
    head = head_of(path)
    assert (head.origin, head.name, head.held) == (
        HeadOrigin.OWN,
        "output.weight",
        DraftVocab.full(V),
    )
    assert not needs_target(*opened(path))


def test_a_reduced_head_in_any_order_is_found_by_id(tmp_path: Path) -> None:
    head = head_of(tiny_gguf(tmp_path / "d.gguf", head="Q8_0", ids=[50, 3, 7, 90]))
    assert head.held.ids.tolist() == [3, 7, 50, 90]
    assert head.rows(DraftVocab(np.array([7, 50]), V)).tolist() == [2, 0]
    with pytest.raises(VocabError, match="no row in the head"):
        head.rows(DraftVocab(np.array([8]), V))


@pytest.mark.parametrize(
    ("tied", "origin", "name"),
    [
        (True, HeadOrigin.TARGET_EMBEDDING, "token_embd.weight"),
        (False, HeadOrigin.TARGET, "output.weight"),
    ],
)
def test_a_head_of_the_target(tmp_path: Path, tied: bool, origin: HeadOrigin, name: str) -> None:
    path = tiny_gguf(tmp_path / "d.gguf")
    assert needs_target(*opened(path))
    head = head_of(path, tiny_gguf_target(tmp_path / "t.gguf", tied=tied))
    assert (head.origin, head.weight.name, head.name) == (origin, name, "output.weight")
    with pytest.raises(CheckpointError, match="its head is the target's: give --target"):
        head_of(path)


def test_a_target_may_be_a_directory(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf")
    target = Checkpoint.open(tiny_target(tmp_path / "t", hidden=H, vocab_size=V))
    head = gguf_head(*opened(path), target)
    assert (head.origin, head.weight.dtype) == (HeadOrigin.TARGET_EMBEDDING, "F32")


def test_a_target_may_be_padded_and_must_be_as_wide(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf")
    padded = head_of(path, tiny_gguf_target(tmp_path / "t.gguf", vocab_size=V + 32))
    assert padded.held.size == V
    with pytest.raises(CheckpointError, match=r"but the drafter needs \[96, 256\]"):
        head_of(path, tiny_gguf_target(tmp_path / "short.gguf", vocab_size=V - 32))
    with pytest.raises(CheckpointError, match=r"shape \[96, 128\], but the drafter needs"):
        head_of(path, tiny_gguf_target(tmp_path / "narrow.gguf", hidden=128))


@pytest.mark.parametrize("architecture", ["dflash", "qwen35"])
def test_an_embedding_of_its_own_is_the_head_where_llama_cpp_takes_it(
    tmp_path: Path, architecture: str
) -> None:
    embedding = {"token_embd.weight": np.ones((V, H), F32)}
    path = tiny_gguf(tmp_path / "d.gguf", architecture=architecture, add=embedding)
    assert head_of(path).origin is HeadOrigin.OWN_EMBEDDING
    # EAGLE-3 takes the target's head even then
    assert needs_target(*opened(tiny_gguf(tmp_path / "e.gguf", add=embedding)))


def test_a_markov_head_follows(tmp_path: Path) -> None:
    markov = {f"markov_w{i}.weight": np.ones((V, 16), F32) for i in (1, 2)}
    path = tiny_gguf(tmp_path / "d.gguf", architecture="dflash", head="Q8_0", add=markov)
    assert [info.name for info in head_of(path).followers] == ["markov_w2.weight"]
    markov["markov_w2.weight"] = np.ones((V - 1, 16), F32)
    path = tiny_gguf(tmp_path / "e.gguf", architecture="dflash", head="Q8_0", add=markov)
    with pytest.raises(CheckpointError, match=r"markov_w2\.weight has 95 rows, but the drafter"):
        head_of(path)


def test_a_multi_token_head_of_its_own_drafts_and_the_output_follows(tmp_path: Path) -> None:
    add = {**MTP_BLOCK, "blk.4.nextn.shared_head_head.weight": np.ones((V, H), F32)}
    path = tiny_gguf(tmp_path / "d.gguf", architecture="qwen35moe", head="F32", add=add)
    head = head_of(path)
    assert head.weight.name == head.name == "blk.4.nextn.shared_head_head.weight"
    assert [info.name for info in head.followers] == ["output.weight"]


def test_a_model_that_also_generates_is_no_drafter(tmp_path: Path) -> None:
    trunk = {**MTP_BLOCK, "blk.0.attn_norm.weight": np.ones(H, F32)}
    for architecture, add in (("qwen35", trunk), ("llama", {})):
        path = tiny_gguf(tmp_path / f"{architecture}.gguf", architecture=architecture, add=add)
        assert drafter_kind(open_gguf(path)) is None


FAULTS = {
    "a map of int32": ({"head": "Q8_0", "vocab_size": 4, "d2t": "int32"}, "but 4 ids as I64"),
    "a map that is too short": ({"rows": 5, "ids": [1, 2, 3]}, "but 5 ids as I64 are needed"),
    "an id twice": ({"head": "Q8_0", "ids": [1, 2, 2]}, "its d2t is no draft vocabulary"),
    "an id beyond V": ({"head": "Q8_0", "ids": [1, 2, V]}, "its d2t is no draft vocabulary"),
    "a map without a head": ({"ids": [1, 2]}, r"it has d2t but no output\.weight"),
    "rows without a map": ({"rows": 5}, "its head has 5 of 96 rows and no d2t"),
    "another width": ({"rows": V, "width": 128}, r"has shape \[96, 128\], but the drafter needs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_head_that_does_not_fit_its_map_is_refused(tmp_path: Path, fault: str) -> None:
    wrong, message = FAULTS[fault]
    add = {}
    if "rows" in wrong:
        add["output.weight"] = np.ones((wrong.pop("rows"), wrong.pop("width", H)), F32)
    if wrong.pop("d2t", None):
        add["d2t"] = np.arange(4, dtype=np.int32)
    path = tiny_gguf(tmp_path / "d.gguf", add=add, **wrong)
    with pytest.raises(CheckpointError, match=message):
        head_of(path)


def test_the_cost_of_a_step_is_what_it_reads(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", ids=range(64))
    model, kind = opened(path)
    fusion, query, row = H * 3 * H, 64 * 2 * H, H // 32 * 34
    assert gguf_cost(model, kind, gguf_head(model, kind, None)) == StepCost(
        params=fusion + query + H + V * H + 64 * H,
        head_params=64 * H,
        # the norm, the projection, the head, and a row of an embedding
        step_bytes=4 * (H + query) + 64 * row + row,
        head_bytes=64 * row,
        cycle_bytes=4 * fusion,
    )


def test_tables_of_which_a_step_reads_a_row_cost_a_row(tmp_path: Path) -> None:
    markov = {f"markov_w{i}.weight": np.ones((V, 16), F32) for i in (1, 2)}
    path = tiny_gguf(tmp_path / "d.gguf", architecture="dflash", head="F32", add=markov)
    without = tiny_gguf(tmp_path / "e.gguf", architecture="dflash", head="F32")
    model, kind = opened(path)
    plain, plain_kind = opened(without)
    cost = gguf_cost(model, kind, gguf_head(model, kind, None))
    less = gguf_cost(plain, plain_kind, gguf_head(plain, plain_kind, None))
    assert cost.head_bytes - less.head_bytes == cost.step_bytes - less.step_bytes == 4 * V * 16
    assert cost.params - less.params == V * 16


@pytest.mark.parametrize("name", ["output.weight", "markov_w2.weight"])
def test_a_head_that_is_no_matrix_is_refused(tmp_path: Path, name: str) -> None:
    add = {"output.weight": np.ones((2, H), F32)} | {name: np.ones((2, 2, 2), F32)}
    path = tiny_gguf(tmp_path / "d.gguf", architecture="dflash", add=add)
    with pytest.raises(CheckpointError, match=r"must be a matrix, found shape \[2, 2, 2\]"):
        head_of(path)
