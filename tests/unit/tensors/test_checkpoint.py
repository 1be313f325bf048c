"""Checkpoints are read lazily: what is not asked for is not read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import (
    V,
    edit,
    in_bfloat16,
    numbers,
    raw_tensors,
    tiny_lm,
    write_raw,
)
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors import checkpoint as module
from vocabtrim.tensors.checkpoint import Checkpoint

EMBEDDING = "model.embed_tokens.weight"


def test_every_tensor_is_described_and_mapped_as_the_library_reads_it(tmp_path: Path) -> None:
    directory = tiny_lm(tmp_path / "lm", tied=False)
    opened = Checkpoint.open(directory)
    expected = raw_tensors(directory)
    assert list(opened.tensors) == sorted(expected)
    for name, (dtype, shape, data) in expected.items():
        info = opened.tensors[name]
        assert (info.dtype, info.shape, info.nbytes) == (dtype, shape, len(data))
        assert info.file.read_bytes()[info.offset :][: info.nbytes] == data
        assert opened.rows(name).shape[0] == shape[0]
        assert opened.rows(name).tobytes() == data
        assert np.array_equal(opened.array(name), numbers(expected[name]))


def test_shards_read_as_one_file_does(tmp_path: Path) -> None:
    whole = Checkpoint.open(tiny_lm(tmp_path / "whole"))
    parts = Checkpoint.open(edit(tiny_lm(tmp_path / "parts"), shards=3))
    assert len({info.file for info in parts.tensors.values()}) == 3
    assert list(parts.tensors) == list(whole.tensors)
    assert all(parts.rows(n).tobytes() == whole.rows(n).tobytes() for n in whole.tensors)


def test_files_linked_from_elsewhere_are_read_as_in_a_hub_cache(tmp_path: Path) -> None:
    blobs = edit(tiny_lm(tmp_path / "blobs"), shards=2)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("..") / "blobs" / file.name)
    assert list(Checkpoint.open(snapshot).tensors) == list(Checkpoint.open(blobs).tensors)


def test_rows_are_a_read_only_view_of_the_file(tmp_path: Path) -> None:
    rows = Checkpoint.open(tiny_lm(tmp_path / "lm")).rows(EMBEDDING)
    assert isinstance(rows.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


def test_bfloat16_comes_as_its_bits(tmp_path: Path) -> None:
    exact = Checkpoint.open(tiny_lm(tmp_path / "exact")).array(EMBEDDING)
    cut = Checkpoint.open(in_bfloat16(tiny_lm(tmp_path / "cut"))).array(EMBEDDING)
    assert cut.dtype == np.uint16
    assert np.array_equal(cut, (exact.view(np.uint32) >> 16).astype(np.uint16))


def test_chunks_are_bounded_and_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 100)
    opened = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    chunks = list(opened.chunks(EMBEDDING))
    assert max(chunk.nbytes for chunk in chunks) == 100
    assert b"".join(chunks) == opened.rows(EMBEDDING).tobytes()
    digest = hashlib.sha256(b"".join(chunks)).hexdigest()
    assert opened.tensor_hash(EMBEDDING) == f"sha256:{digest}"


def test_content_hash_follows_the_bytes_and_not_the_place(tmp_path: Path) -> None:
    one, same = tiny_lm(tmp_path / "one"), tiny_lm(tmp_path / "same")
    expected = Checkpoint.open(one).content_hash()
    assert Checkpoint.open(same).content_hash() == expected
    weights = bytearray((same / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (same / "model.safetensors").write_bytes(weights)
    assert Checkpoint.open(same).content_hash() != expected
    edit(one, config={"note": 1})
    assert Checkpoint.open(one).content_hash() != expected


def test_empty_tensors_and_odd_types(tmp_path: Path) -> None:
    directory = tiny_lm(tmp_path / "lm")
    tensors = raw_tensors(directory)
    tensors |= {
        "empty": ("F32", (0, 4), b""),
        "scalar": ("F32", (), bytes(4)),
        "eight": ("F8_E4M3", (2, 3), bytes(range(6))),
        "nibbles": ("F4", (2, 3), bytes(range(3))),
    }
    write_raw(directory, tensors)
    opened = Checkpoint.open(directory)
    assert opened.rows("empty").shape == (0, 0)
    assert opened.array("empty").shape == (0, 4)
    assert opened.rows("eight").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(CheckpointError, match="eight is F8_E4M3"):
        opened.array("eight")
    for name in ("scalar", "nibbles"):
        with pytest.raises(CheckpointError, match=f"{name} .* has no rows of whole bytes"):
            opened.rows(name)
    with pytest.raises(CheckpointError, match="there is no tensor absent"):
        opened.rows("absent")


def test_the_language_model_of_a_model_that_also_sees(tmp_path: Path) -> None:
    directory = tiny_lm(tmp_path / "lm")
    assert Checkpoint.open(directory).integer("vocab_size") == V
    edit(directory, config={"text_config": {"vocab_size": 7}})
    assert Checkpoint.open(directory).integer("vocab_size") == 7


@pytest.mark.parametrize("value", [0, -1, 1.5, "96", True, None])
def test_a_config_value_that_is_no_positive_integer(tmp_path: Path, value: object) -> None:
    directory = edit(tiny_lm(tmp_path / "lm"), config={"vocab_size": value})
    with pytest.raises(CheckpointError, match="vocab_size must be a positive integer"):
        Checkpoint.open(directory).integer("vocab_size")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: there is no such directory"):
        Checkpoint.open(tmp_path / "absent")
