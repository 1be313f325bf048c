"""Heads and maps that contradict each other are refused; engines load them in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, edit, tiny_eagle3, tiny_lm, tiny_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.causal import causal_layout
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import (
    HeadOrigin,
    embedding_head,
    host_head,
    own_head,
    stores_head,
    target_head,
    vocabulary_maps,
)

IDS = [1, 4, 5, 70]


def test_an_own_head_holds_the_ids_of_its_map(tmp_path: Path) -> None:
    drafter = Checkpoint.open(tiny_eagle3(tmp_path / "d", ids=IDS))
    head = own_head(drafter, V)
    assert head.held.ids.tolist() == IDS
    assert head.weight.shape == (4, H)
    assert head.origin is HeadOrigin.OWN
    assert not head.origin.shared


def test_a_map_of_zeros_beside_a_full_head_says_nothing(tmp_path: Path) -> None:
    directory = tiny_eagle3(tmp_path / "d", own_head=True)
    edit(directory, add={"d2t": np.zeros(V, np.int64), "t2d": np.ones(V, np.bool_)})
    assert own_head(Checkpoint.open(directory), V).held.is_full


def test_a_map_without_the_mask_is_enough(tmp_path: Path) -> None:
    directory = edit(tiny_eagle3(tmp_path / "d", ids=IDS), drop=["t2d"])
    assert own_head(Checkpoint.open(directory), V).held.ids.tolist() == IDS


def test_a_map_in_another_order_says_which_row_is_whose(tmp_path: Path) -> None:
    ids = np.array([70, 1, 5, 4])
    directory = tiny_eagle3(tmp_path / "d", ids=IDS)
    edit(directory, add={"d2t": ids - np.arange(4)}, drop=["t2d"])
    head = own_head(Checkpoint.open(directory), V)
    assert head.held.ids.tolist() == IDS
    assert head.rows_of(DraftVocab(np.array([4, 70]), V)).tolist() == [3, 0]
    assert head.rows_of(head.held).tolist() == [1, 3, 2, 0]


def test_a_head_under_another_name(tmp_path: Path) -> None:
    head = {"embed_out.weight": np.zeros((V, H + 1), np.float32)}
    drafter = Checkpoint.open(edit(tiny_lm(tmp_path / "d"), add=head))
    found = own_head(drafter, V, name="embed_out.weight", hidden=H + 1)
    assert (found.weight.name, found.weight.shape) == ("embed_out.weight", (V, H + 1))


@pytest.mark.parametrize("name", ["lm_head.weight_scale", "lm_head.qzeros"])
def test_scales_beside_a_head_are_not_left_behind(tmp_path: Path, name: str) -> None:
    scales = {name: np.ones((V, 1), np.float32)}
    own = edit(tiny_eagle3(tmp_path / "d", own_head=True), add=scales)
    borrowed = edit(tiny_target(tmp_path / "t", tied=False), add=scales)
    assert stores_head(Checkpoint.open(own))
    for call in (
        lambda: own_head(Checkpoint.open(own), V),
        lambda: target_head(Checkpoint.open(borrowed), vocab_size=V, hidden=H),
        lambda: host_head(Checkpoint.open(borrowed)),
    ):
        with pytest.raises(CheckpointError, match=f"its head is packed .{name}"):
            call()


def test_a_head_of_the_target_that_the_drafter_is_part_of(tmp_path: Path) -> None:
    for tied, origin in ((True, HeadOrigin.HOST_EMBEDDING), (False, HeadOrigin.HOST)):
        target = Checkpoint.open(tiny_target(tmp_path / str(tied), tied=tied))
        head = host_head(target)
        assert (head.origin, head.checkpoint, head.held.is_full) == (origin, target, True)
        assert head.origin.shared
        assert head.origin.targets_own
        assert not head.origin.of_target


def test_a_map_of_narrower_integers_is_read(tmp_path: Path) -> None:
    offsets = np.array([1, 3, 3, 67], np.int32)
    directory = edit(tiny_eagle3(tmp_path / "d", ids=IDS), add={"d2t": offsets})
    assert own_head(Checkpoint.open(directory), V).held.ids.tolist() == IDS


def test_the_bias_of_a_head_follows_it(tmp_path: Path) -> None:
    directory = edit(
        tiny_eagle3(tmp_path / "d", ids=IDS), add={"lm_head.bias": np.zeros(4, np.float32)}
    )
    head = own_head(Checkpoint.open(directory), V)
    assert [tensor.role for tensor in head.tensors.values()] == ["weight", "bias"]
    assert [info.shape for info in head.infos] == [(4, H), (4,)]


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the map is shorter than the head": (
        lambda d: edit(d, add={"d2t": np.array([1, 3, 3])}),
        "d2t has 3 entries, but its head has 4 rows",
    ),
    "the map is missing": (
        lambda d: edit(d, drop=["d2t"]),
        f"its head has 4 of {V} rows and no d2t says for which ids",
    ),
    "the map holds absolute ids": (
        lambda d: edit(d, add={"d2t": np.array([70, 5, 4, 1])}),
        "its d2t is no draft vocabulary: .*must ascend",
    ),
    "two rows stand for one id": (
        lambda d: edit(d, add={"d2t": np.array([1, 0, 3, 67])}),
        "must ascend without duplicates",
    ),
    "the map and the mask have different orders": (
        lambda d: edit(d, add={"d2t": np.array([70, 3, 3, -2])}),
        "its d2t does not ascend, and the t2d beside it does",
    ),
    "the map leads beyond V": (
        lambda d: edit(d, add={"d2t": np.array([1, 3, 3, V])}),
        rf"must lie in \[0, {V}\)",
    ),
    "the map is a matrix": (
        lambda d: edit(d, add={"d2t": np.zeros((2, 2), np.int64)}),
        r"d2t must be a vector, found shape \[2, 2\]",
    ),
    "the map holds fractions": (
        lambda d: edit(d, add={"d2t": np.array([1, 3, 3, 67], np.float32)}),
        "must be a vector of integers",
    ),
    "the mask names other ids": (
        lambda d: edit(d, add={"t2d": np.arange(V) < 4}),
        "t2d and d2t name different ids",
    ),
    "the mask is too short": (
        lambda d: edit(d, add={"t2d": np.isin(np.arange(V - 1), IDS)}),
        "t2d and d2t name different ids",
    ),
    "the config says another K": (
        lambda d: edit(d, config={"draft_vocab_size": 5}),
        "draft_vocab_size is 5, but its head has 4 rows",
    ),
    "rows of another width": (
        lambda d: edit(d, add={"lm_head.weight": np.zeros((4, H + 1), np.float32)}),
        rf"lm_head.weight has shape \[4, {H + 1}\], but \[4, {H}\] is expected",
    ),
    "a head without axes": (
        lambda d: edit(d, add={"lm_head.weight": np.float32(1).reshape(())}),
        r"lm_head.weight has shape \[\]",
    ),
    "a bias of another length": (
        lambda d: edit(d, add={"lm_head.bias": np.zeros(5, np.float32)}),
        r"lm_head.bias has shape \[5\], but \[4\] is expected",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_contradictions_are_refused(tmp_path: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    directory = tiny_eagle3(tmp_path / "d", ids=IDS)
    damage(directory)
    with pytest.raises(CheckpointError, match=message) as caught:
        own_head(Checkpoint.open(directory), V)
    assert str(caught.value).startswith(f"{directory}: ")


@pytest.mark.parametrize(
    ("tied", "origin", "name"),
    [
        (True, HeadOrigin.TARGET_EMBEDDING, "model.embed_tokens.weight"),
        (False, HeadOrigin.TARGET, "lm_head.weight"),
    ],
)
def test_a_head_borrowed_from_the_target(
    tmp_path: Path, tied: bool, origin: HeadOrigin, name: str
) -> None:
    target = Checkpoint.open(tiny_target(tmp_path / "t", tied=tied))
    head = target_head(target, vocab_size=V, hidden=H)
    assert (head.origin, head.weight.name) == (origin, name)
    assert head.held.is_full
    assert head.origin.shared
    assert head.origin.of_target


@pytest.mark.parametrize(("vocab_size", "hidden"), [(V + 32, H), (V, H // 2)])
def test_a_target_that_does_not_fit(tmp_path: Path, vocab_size: int, hidden: int) -> None:
    target = Checkpoint.open(tiny_target(tmp_path / "t"))
    with pytest.raises(CheckpointError, match="was trained for another target"):
        target_head(target, vocab_size=vocab_size, hidden=hidden)


def test_a_borrowed_head_brings_its_bias(tmp_path: Path) -> None:
    directory = tiny_target(tmp_path / "t", tied=False)
    edit(directory, add={"lm_head.bias": np.zeros(V, np.float32)})
    head = target_head(Checkpoint.open(directory), vocab_size=V, hidden=H)
    assert [info.name for info in head.infos] == ["lm_head.weight", "lm_head.bias"]
    assert head.tensors["lm_head.bias"].role == "bias"


def test_a_tied_head_holds_an_id_for_each_row_of_the_embedding(tmp_path: Path) -> None:
    lm = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    head = embedding_head(lm, causal_layout(lm))
    assert head.held == DraftVocab.full(V)
    assert [origin.tied for origin in HeadOrigin].count(True) == 1
    assert head.origin.tied


def test_only_all_of_a_shared_head_stays_where_it_is(tmp_path: Path) -> None:
    lm = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    tied = embedding_head(lm, causal_layout(lm))
    own = own_head(Checkpoint.open(tiny_eagle3(tmp_path / "d", own_head=True)), V)
    full, part = DraftVocab.full(V), DraftVocab(np.arange(V - 1), V)
    assert (tied.stays(full), tied.stays(part), own.stays(full)) == (True, False, False)


def test_what_the_config_says_of_the_logits(tmp_path: Path) -> None:
    directory = edit(
        tiny_target(tmp_path / "t"), config={"final_logit_softcapping": 30.0, "logit_scale": None}
    )
    head = target_head(Checkpoint.open(directory), vocab_size=V, hidden=H)
    assert head.logit_keys() == {"final_logit_softcapping": 30.0}


def test_maps_are_written_only_where_ids_are_missing() -> None:
    assert vocabulary_maps(DraftVocab.full(V)) == {}
    maps = vocabulary_maps(DraftVocab(np.array(IDS), V))
    assert maps["d2t"].tolist() == [1, 3, 3, 67]
    assert maps["d2t"].dtype == np.int64
    assert np.flatnonzero(maps["t2d"]).tolist() == IDS
