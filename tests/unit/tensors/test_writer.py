"""The writer's files are read by the library, byte for byte, without filling memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.tiny import WATCH_MEMORY, in_bfloat16, raw_tensors, tiny_lm, write_sparse
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.writer import CheckpointWriter

DTYPES = ["bool", "int8", "uint8", "int16", "float16", "int32", "float32", "int64", "float64"]


@settings(deadline=None, max_examples=40)
@given(
    tensors=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=6,
    )
)
def test_the_library_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, tuple[str, list[int]]]
) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.integers(0, 2, shape).astype(dtype)
        for name, (dtype, shape) in tensors.items()
    }
    path = tmp_path_factory.mktemp("written") / "model.safetensors"
    writer = CheckpointWriter()
    for name, array in arrays.items():
        writer.add_array(name, array)
    writer.write(path)
    found = load_file(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_copies_are_byte_for_byte_also_of_types_that_numpy_lacks(tmp_path: Path) -> None:
    source = Checkpoint.open(in_bfloat16(tiny_lm(tmp_path / "lm")))
    writer = CheckpointWriter()
    for name in source.tensors:
        writer.copy(source, name)
    copied = tmp_path / "copied"
    copied.mkdir()
    writer.write(copied / "model.safetensors")
    assert raw_tensors(copied) == raw_tensors(source.path)


def test_arrays_that_are_not_contiguous_are_written_by_value(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4).T
    writer = CheckpointWriter()
    writer.add_array("a", array)
    writer.write(tmp_path / "a.safetensors")
    assert np.array_equal(load_file(tmp_path / "a.safetensors")["a"], array)


def test_every_tensor_is_aligned_and_the_order_of_adding_does_not_matter(tmp_path: Path) -> None:
    arrays = {
        "b": np.zeros(3, np.bool_),
        "a": np.zeros(5, np.int64),
        "c": np.zeros(3, np.float32),
        "d": np.zeros(1, np.float16),
    }
    for file, names in (("one", "abcd"), ("two", "dcba")):
        writer = CheckpointWriter()
        for name in names:
            writer.add_array(name, arrays[name])
        writer.write(tmp_path / file)
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    for name, entry in header.items():
        assert (8 + length + entry["data_offsets"][0]) % arrays[name].itemsize == 0


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    writer = CheckpointWriter()
    writer.add_array("a", np.zeros(1))
    with pytest.raises(CheckpointError, match="a would be written twice"):
        writer.add_array("a", np.zeros(1))


@pytest.mark.parametrize("given_bytes", [b"123", b"12345"])
def test_a_tensor_that_breaks_its_promise_is_not_written_in_silence(
    tmp_path: Path, given_bytes: bytes
) -> None:
    writer = CheckpointWriter()
    writer.add("a", "U8", (4,), 4, lambda: [given_bytes])
    with pytest.raises(
        CheckpointError, match=f"announced with 4 bytes and gave {len(given_bytes)}"
    ):
        writer.write(tmp_path / "a")


COPY_A_BIG_FILE = (
    WATCH_MEMORY
    + """
import sys
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.writer import CheckpointWriter

source = Checkpoint.open(Path(sys.argv[1]))
writer = CheckpointWriter()
for name in source.tensors:
    writer.copy(source, name)
writer.write(Path(sys.argv[2]))
print(peak_kib())
"""
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_file_larger_than_the_limit_does_not_fill_memory(tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.mkdir()
    (source / "config.json").write_text("{}")
    write_sparse(source / "model.safetensors", {"big": ("U8", (300 << 10, 1 << 10))})
    command = [sys.executable, "-c", COPY_A_BIG_FILE, str(source), str(tmp_path / "copy")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "copy").stat().st_size > 300 << 20
    assert 0 < int(outcome.stdout) < 250 << 10


def test_a_hollow_file_has_everything_but_bytes(tmp_path: Path) -> None:
    writer = CheckpointWriter()
    writer.add_array("ids", np.arange(5))
    writer.add("head", "BF16", (1 << 16, 512), 1 << 26, list)
    writer.write_hollow(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_blocks * 512 < 1 << 20
    (tmp_path / "config.json").write_text("{}")
    found = Checkpoint.open(tmp_path)
    assert {name: (info.dtype, info.shape) for name, info in found.tensors.items()} == {
        "head": ("BF16", (1 << 16, 512)),
        "ids": ("I64", (5,)),
    }
    assert not found.rows("head")[-1].any()
