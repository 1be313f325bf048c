"""Files of ids as they lie there: nothing repaired, nothing large, nothing run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tests.clean_drafters import IDS, KEPT, V, vocabulary
from vocabtrim.core.errors import ArtifactError
from vocabtrim.pipeline.checks.listed import MOST_BYTES, read_listed
from vocabtrim.tensors.id_writer import FORMS, write_ids


@pytest.mark.parametrize("form", FORMS)
def test_every_list_of_ours(tmp_path: Path, form: str) -> None:
    write_ids(tmp_path / "ids", KEPT, form)  # type: ignore[arg-type]
    found = read_listed(tmp_path / "ids")
    assert found.numbers is not None
    assert found.numbers.tolist() == IDS.tolist()
    assert not found.odd
    assert found.is_list == (form != "ids-npy")


def test_a_draft_vocabulary(tmp_path: Path) -> None:
    found = read_listed(vocabulary(tmp_path / "v"))
    assert found.kind == "draft vocabulary"
    assert found.vocab_size == V


def test_repeats_and_order_are_kept(tmp_path: Path) -> None:
    torch.save([5, 3, 3, 9], tmp_path / "ids.pt")
    found = read_listed(tmp_path / "ids.pt")
    assert found.numbers is not None
    assert found.numbers.tolist() == [5, 3, 3, 9]
    assert found.may_be_ids
    assert not found.only_offsets


@pytest.mark.parametrize(
    ("numbers", "ids", "offsets"),
    [
        ([2, 5, 9], True, True),
        ([2, 2, 2, 2, 5], False, True),
        ([-1, 0, 0], False, False),
        ([4, -1, 3], False, True),
        ([1, 0], True, False),
    ],
)
def test_what_numbers_can_be(tmp_path: Path, numbers: list[int], ids: bool, offsets: bool) -> None:
    torch.save(torch.tensor(numbers), tmp_path / "v.pt")
    found = read_listed(tmp_path / "v.pt")
    assert (found.may_be_ids, found.may_be_offsets) == (ids, offsets)
    assert found.only_offsets == (offsets and not ids)
    assert not found.is_list


def test_maps_in_a_file(tmp_path: Path) -> None:
    maps = {"d2t": torch.tensor([1, 1, 2]), "t2d": torch.tensor([False, True, True, False, True])}
    torch.save(maps, tmp_path / "cache.pt")
    found = read_listed(tmp_path / "cache.pt")
    assert set(found.maps) == {"d2t", "t2d"}
    assert found.vocab_size == 5
    save_file({"vocab_map": np.array([3, 1], np.int32)}, tmp_path / "vocab_map.safetensors")
    edge = read_listed(tmp_path / "vocab_map.safetensors")
    assert edge.numbers is not None
    assert edge.numbers.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("value", "odd"),
    [([1, "a"], "'a'"), ([1, True], "'True'"), ([], "an empty list"), ([1, 2.5], "'2.5'")],
)
def test_lists_of_something_else(tmp_path: Path, value: object, odd: str) -> None:
    (tmp_path / "ids.json").write_text(json.dumps(value))
    found = read_listed(tmp_path / "ids.json")
    assert found.numbers is None
    assert odd in found.odd or odd.replace("T", "t") in found.odd


def test_vectors_of_something_else(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    found = read_listed(tmp_path / "x.npy")
    assert found.numbers is None
    assert found.odd == "shape [2, 2] of float64"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some words", "neither a drafter nor a list"),
        (b"", "neither a drafter nor a list"),
        (b"[1, 2", "no valid JSON"),
        (b'{"7": 100}', "no list of ids: it holds 7"),
        (b'"text"', "neither a drafter nor a list"),
        (b"PK\x03\x04 and no more", "not a whole .pt file"),
        (b"\x93NUMPY\x01\x00", "not a readable .npy file"),
        (b"\x10\0\0\0\0\0\0\0{}              ", "holds weights"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_listed(tmp_path / "x")


def test_weights_are_sent_to_their_directory(tmp_path: Path) -> None:
    save_file({"d2t": np.zeros(4, np.int64), "lm_head.weight": np.ones((4, 2))}, tmp_path / "m")
    with pytest.raises(ArtifactError, match="give the directory that it lies in"):
        read_listed(tmp_path / "m")


def test_nothing_large_is_loaded(tmp_path: Path) -> None:
    with (tmp_path / "ids.txt").open("wb") as stream:
        stream.write(b"1 2 3 ")
        stream.truncate(MOST_BYTES + 1)
    with pytest.raises(ArtifactError, match="no list of ids is larger"):
        read_listed(tmp_path / "ids.txt")
    save_file({"ids": np.zeros(MOST_BYTES // 8 + 1, np.int64)}, tmp_path / "big")
    with pytest.raises(ArtifactError, match="no list of ids is larger"):
        read_listed(tmp_path / "big")
