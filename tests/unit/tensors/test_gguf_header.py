"""Headers against gguf's own reader; damaged files give a sentence, not a crash."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_gguf import read_gguf, tiny_gguf
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_header import read_header


def every_kind(writer: gguf.GGUFWriter) -> None:
    """Add metadata of every type, with what gguf's reader cannot give back."""
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -100)
    writer.add_uint16("a.u16", 60_000)
    writer.add_int16("a.i16", -30_000)
    writer.add_uint32("a.u32", 4_000_000_000)
    writer.add_int32("a.i32", -2_000_000_000)
    writer.add_uint64("a.u64", 1 << 63)
    writer.add_int64("a.i64", -(1 << 62))
    writer.add_float32("a.f32", 0.5)
    writer.add_float64("a.f64", 0.1)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "naïve γ")
    writer.add_array("a.ints", [1, -2, 3])
    writer.add_array("a.floats", [0.5, 0.25])
    writer.add_array("a.texts", ["", "γ", "token"])


def test_values_and_tensors_are_those_of_ggufs_own_reader(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf", head="Q4_0", more=every_kind)
    header, theirs = read_header(path), read_gguf(path)
    assert list(header.entries) == list(theirs.metadata)
    for key, value in theirs.metadata.items():
        if not isinstance(value, list):
            assert header.value(key) == value, key
        elif isinstance(value[0], str):
            assert header.texts(key) == value
        else:
            assert header.numbers(key) == value
        assert header.count(key) == (len(value) if isinstance(value, list) else None)
    assert {name: info.dtype for name, info in header.tensors.items()} == theirs.types
    whole = path.read_bytes()
    for name, info in header.tensors.items():
        assert whole[info.offset : info.offset + info.nbytes] == theirs.data[name].tobytes()


def test_raw_entries_put_together_are_the_metadata(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf", more=every_kind)
    header = read_header(path)
    entries = b"".join(header.raw(key) for key in header.entries)
    assert path.read_bytes()[24 : 24 + len(entries)] == entries


def test_a_value_is_asked_for_as_what_it_is(tmp_path: Path) -> None:
    header = read_header(tiny_gguf(tmp_path / "d.gguf", more=every_kind))
    assert header.value("nothing") is None
    assert header.texts("nothing") == header.numbers("nothing") == []
    for ask, key, message in (
        (header.value, "a.ints", "is an array"),
        (header.text, "a.u8", "must be a text, found 200"),
        (header.texts, "a.ints", "no array of texts"),
        (header.numbers, "a.texts", "no array of numbers"),
        (header.numbers, "a.u8", "no array of numbers"),
    ):
        with pytest.raises(CheckpointError, match=message):
            ask(key)


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_tensors_lie_where_the_stated_alignment_puts_them(tmp_path: Path, alignment: int) -> None:
    # gguf's writer puts the key, llama.cpp and its reader follow it.
    path = tiny_gguf(
        tmp_path / "d.gguf", more=lambda writer: writer.add_custom_alignment(alignment)
    )
    header, theirs = read_header(path), read_gguf(path)
    assert header.alignment == alignment
    whole = path.read_bytes()
    for name, info in header.tensors.items():
        assert whole[info.offset : info.offset + info.nbytes] == theirs.data[name].tobytes()


Edit = Callable[[bytes], bytes]

FAULTS: dict[str, tuple[Edit, str]] = {
    "another magic": (lambda data: b"GGML" + data[4:], "it is no GGUF file"),
    "version 1": (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "has GGUF version 1"),
    "big-endian": (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], "is big-endian"),
    "endless metadata": (lambda data: data[:16] + b"\xff" * 7 + b"\x00" + data[24:], "damaged"),
    "endless tensors": (lambda data: data[:8] + b"\xff" * 8 + data[16:], "damaged"),
    "cut in the header": (lambda data: data[:200], "damaged"),
    "cut in the data": (lambda data: data[:-4096], "bytes behind its end"),
    "a huge string": (
        lambda data: data[:24] + struct.pack("<Q", 1 << 62) + data[32:],
        "bytes of a name are promised, more than any model has",
    ),
    "a name longer than the file": (
        lambda data: data[:24] + struct.pack("<Q", 1 << 16) + data[32:40],
        "more bytes are promised than there are",
    ),
    "a key twice": (
        lambda data: data.replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.merges"),
        r"tokenizer\.ggml\.merges is there twice",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, fault: str) -> None:
    edit, message = FAULTS[fault]
    path = tiny_gguf(tmp_path / "d.gguf", head="Q8_0")
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        read_header(path)


def test_an_empty_file_and_a_directory_are_no_gguf_files(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match="it is no GGUF file"):
            read_header(path)


def test_a_type_of_tomorrow_is_named(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf")
    data = bytearray(path.read_bytes())
    at = data.index(b"fc.weight") + len(b"fc.weight") + 4 + 16
    data[at : at + 4] = struct.pack("<I", 31)
    path.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"fc\.weight is of type 31, which the installed gguf"
    ):
        read_header(path)


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf", head="Q4_0")
    data = bytearray(path.read_bytes())
    at = data.index(b"output.weight") + len(b"output.weight") + 4
    data[at : at + 8] = struct.pack("<Q", 250)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="rows of 250 values, not whole blocks"):
        read_header(path)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_flipped_byte_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "d.gguf"
    whole = bytearray(tiny_gguf(path, head="Q4_0", vocab_size=8).read_bytes())
    header_bytes = read_header(path).tensors["fc.weight"].offset
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        header = read_header(path)
        for key, entry in header.entries.items():
            if entry.count is None:
                header.value(key)
    except CheckpointError:
        pass
    else:
        assert all(info.offset + info.nbytes <= len(whole) for info in header.tensors.values())


def test_half_a_million_strings_are_stepped_over(tmp_path: Path) -> None:
    path = tmp_path / "d.gguf"
    entry = np.frombuffer(struct.pack("<Q", 4) + b"abcd", dtype=np.uint8)
    key = b"tokenizer.ggml.tokens"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key
    head += struct.pack("<IIQ", 9, 8, 500_000)
    path.write_bytes(head + np.tile(entry, 500_000).tobytes())
    header = read_header(path)
    assert header.count("tokenizer.ggml.tokens") == 500_000
    assert header.texts("tokenizer.ggml.tokens")[-1] == "abcd"
