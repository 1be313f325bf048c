"""Checkpoints are read lazily, and damaged ones are refused by name."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import (
    H,
    V,
    edit,
    in_bfloat16,
    numbers,
    raw_tensors,
    tiny_lm,
    tiny_target,
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


def test_a_single_file_wins_over_an_index_beside_it(tmp_path: Path) -> None:
    directory = tiny_lm(tmp_path / "lm")
    (directory / "model.safetensors.index.json").write_text("no JSON")
    assert EMBEDDING in Checkpoint.open(directory).tensors


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


def test_bytes_of_a_tensor_as_stored_and_at_another_precision(tmp_path: Path) -> None:
    info = Checkpoint.open(in_bfloat16(tiny_lm(tmp_path / "lm"))).tensors[EMBEDDING]
    assert (info.n_params, info.row_bytes) == (V * H, 2 * H)
    assert (info.bytes_at(None), info.bytes_at(4), info.bytes_at(0.5)) == (
        2 * V * H,
        4 * V * H,
        V * H // 2,
    )


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


def _with_header(
    change: Callable[[dict[str, dict[str, list[int]]]], None],
) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        file = directory / "model.safetensors"
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


def _overlap(header: dict[str, dict[str, list[int]]]) -> None:
    names = [name for name in header if name != "__metadata__"]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]


def _index(weight_map: object) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        edit(directory, shards=2)
        path = directory / "model.safetensors.index.json"
        document = json.loads(path.read_text())
        if isinstance(weight_map, dict):
            document["weight_map"] |= weight_map
        else:
            document["weight_map"] = weight_map
        path.write_text(json.dumps(document))

    return damage


def _truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _twice(directory: Path) -> None:
    edit(directory, shards=2)
    first, second = sorted(directory.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())


def _only_bin(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _lost_shard(directory: Path) -> None:
    edit(directory, shards=2)
    min(directory.glob("*.safetensors")).unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "config.json: there is no such file"),
    "config is text": (
        lambda d: (d / "config.json").write_text("{"),
        "config.json: it is not JSON",
    ),
    "config is binary": (
        lambda d: (d / "config.json").write_bytes(b"\xff\xfe"),
        "config.json: it is not JSON",
    ),
    "config is a list": (
        lambda d: (d / "config.json").write_text("[]"),
        "must hold a JSON object, found list",
    ),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "neither model.safetensors nor"),
    "pickled weights": (_only_bin, "pytorch_model.bin must be saved as safetensors first"),
    "truncated": (_truncate, "model.safetensors: it is not a whole safetensors file"),
    "empty file": (
        lambda d: (d / "model.safetensors").write_bytes(b""),
        "model.safetensors: it is not a whole safetensors file",
    ),
    "a web page": (
        lambda d: (d / "model.safetensors").write_text("<html>not found</html>"),
        "model.safetensors: it is not a whole safetensors file",
    ),
    "overlapping tensors": (_with_header(_overlap), "it is not a whole safetensors file"),
    "index leads upwards": (_index({EMBEDDING: "../x.safetensors"}), "lies outside"),
    "index leads to the root": (_index({EMBEDDING: "/etc/passwd"}), "lies outside"),
    "index leads through a backslash": (_index({EMBEDDING: "..\\x"}), "lies outside"),
    "index names a number": (_index({EMBEDDING: 3}), "must be a name, found 3"),
    "index without a map": (_index(None), "weight_map must map tensor names to files"),
    "index promises too much": (
        _index({"absent": "model-00001-of-00002.safetensors"}),
        "promises absent, which is not in it",
    ),
    "index names the wrong shard": (
        _index({"lm_head.weight": "model-00002-of-00002.safetensors"}),
        "model-00002-of-00002.safetensors: .* promises lm_head",
    ),
    "a shard is missing": (_lost_shard, "00001-of-00002.safetensors: it is not a whole"),
    "a tensor is in two shards": (_twice, "is also in model-00001-of-00002.safetensors"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_refused_in_one_sentence_that_names_the_file(tmp_path: Path, fault: str) -> None:
    directory = tiny_target(tmp_path / "lm", tied=False)
    damage, message = FAULTS[fault]
    damage(directory)
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.open(directory)
    text = str(caught.value)
    assert "\n" not in text
    assert re.match(re.escape(str(directory)), text)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: there is no such directory"):
        Checkpoint.open(tmp_path / "absent")
