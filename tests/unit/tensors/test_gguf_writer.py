"""What is written is read back by llama.cpp's own package, metadata byte for byte."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.tiny_gguf import read_gguf, tiny_gguf
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_header import read_header
from vocabtrim.tensors.gguf_writer import GgufWriter


def unusual(writer: gguf.GGUFWriter) -> None:
    """Add what a second encoding would change."""
    writer.add_array("a.ints", [1, 2])
    writer.add_uint8("a.byte", 3)
    writer.add_string("a.empty", "")


def rewritten(source: Path, path: Path, *, without: frozenset[str] = frozenset()) -> GgufWriter:
    header = read_header(source)
    whole = source.read_bytes()
    writer = GgufWriter(header.alignment)
    writer.copy_entries(header, without=without)
    for name, info in header.tensors.items():
        data = whole[info.offset : info.offset + info.nbytes]
        writer.add(name, info.dtype, info.shape, info.nbytes, lambda data=data: [data])
    writer.write(path)
    return writer


@pytest.mark.parametrize("alignment", [32, 256])
def test_a_copy_is_the_same_file(tmp_path: Path, alignment: int) -> None:
    def more(writer: gguf.GGUFWriter) -> None:
        unusual(writer)
        if alignment != 32:
            writer.add_custom_alignment(alignment)

    source = tiny_gguf(tmp_path / "a.gguf", head="Q5_0", ids=[1, 2, 3], more=more)
    rewritten(source, tmp_path / "b.gguf")
    assert (tmp_path / "b.gguf").read_bytes() == source.read_bytes()


def test_entries_are_left_out_and_added_behind_the_others(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "a.gguf", more=unusual)
    writer = GgufWriter(32)
    writer.copy_entries(read_header(source), without=frozenset({"a.ints"}))
    writer.add_text("mine", "naïve")
    writer.add_number("count", 7)
    writer.write(tmp_path / "b.gguf")
    before, after = read_gguf(source).metadata, read_gguf(tmp_path / "b.gguf").metadata
    kept = {key: value for key, value in before.items() if key != "a.ints"}
    assert after == {**kept, "mine": "naïve", "count": 7}
    assert list(after)[-2:] == ["mine", "count"]


def test_tensors_of_odd_sizes_are_padded_for_the_next(tmp_path: Path) -> None:
    arrays = {f"t{size}": np.arange(size, dtype=np.float32) for size in (1, 7, 8, 9, 33)}
    writer = GgufWriter(32)
    for name, array in arrays.items():
        data = array.tobytes()
        writer.add(name, "F32", array.shape, len(data), lambda data=data: [data[:4], data[4:]])
    writer.write(tmp_path / "a.gguf")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert {t.name: t.data.tolist() for t in reader.tensors} == {
        name: array.tolist() for name, array in arrays.items()
    }
    # llama.cpp goes by this sum, and refuses a gap
    ends = [t.data_offset + t.n_bytes for t in reader.tensors]
    starts = [t.data_offset for t in reader.tensors[1:]] + [(tmp_path / "a.gguf").stat().st_size]
    assert [-(-end // 32) * 32 for end in ends] == starts


def test_metadata_is_rewritten_only_at_the_same_length(tmp_path: Path) -> None:
    source, path = tiny_gguf(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    writer = GgufWriter(32)
    writer.copy_entries(read_header(source), without=frozenset())
    writer.add_text("mine", "0000")
    writer.add("t", "F32", (1,), 4, lambda: [b"abcd"])
    writer.write(path)
    writer.add_text("mine", "1234")
    writer.write_head(path)
    assert read_gguf(path).metadata["mine"] == "1234"
    assert read_gguf(path).data["t"].tobytes() == b"abcd"
    writer.add_text("mine", "12345")
    with pytest.raises(CheckpointError, match="bytes in place of"):
        writer.write_head(path)


def test_what_was_announced_is_held_to(tmp_path: Path) -> None:
    writer = GgufWriter(32)
    writer.add("t", "F32", (2,), 8, lambda: [b"abcd"])
    with pytest.raises(CheckpointError, match="t was announced with 8 bytes and gave 4"):
        writer.write(tmp_path / "a.gguf")
    with pytest.raises(CheckpointError, match="t would be written twice"):
        writer.add("t", "F32", (1,), 4, lambda: [b"abcd"])
