"""Streams: unpacked as they come, to the fault if there is one."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import WATCH_MEMORY
from vocabtrim.sources.streams import Damaged, compression_of, needed, read_up_to, unpacked

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
both = pytest.mark.parametrize("compression", PACK)


def opened(packed: bytes, compression: str) -> io.BufferedReader:
    return unpacked(io.BufferedReader(io.BytesIO(packed)), compression)


@both
@settings(deadline=None, max_examples=30)
@given(data=st.data(), members=st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_members_are_one_stream(
    compression: str, data: st.DataObject, members: list[bytes]
) -> None:
    packed = b"".join(map(PACK[compression], members))
    assert compression_of(packed) == compression
    size = data.draw(st.integers(1, 300))
    with opened(packed, compression) as stream:
        pieces = []
        while piece := read_up_to(stream, size):
            pieces.append(piece)
    assert b"".join(pieces) == b"".join(members)
    assert all(len(piece) == size for piece in pieces[:-1])


@both
@pytest.mark.parametrize("left", [1, 20, 3000, 9990])
def test_a_stream_that_breaks_off_gives_what_it_has_and_then_says_so(
    compression: str, left: int
) -> None:
    content = os.urandom(10_000)
    with opened(PACK[compression](content)[:left], compression) as stream:
        held = b""
        with pytest.raises(Damaged, match="breaks off in the middle of its"):
            while piece := read_up_to(stream, 1 << 20):
                held += piece
        with pytest.raises(Damaged):
            read_up_to(stream, 1)
    assert content.startswith(held)
    if compression == "gzip":
        assert len(held) > left - 100


@both
def test_a_stream_that_is_damaged_says_so(compression: str) -> None:
    packed = bytearray(PACK[compression](b"some text " * 1000))
    packed[-3] ^= 0xFF
    with opened(bytes(packed), compression) as stream, pytest.raises(Damaged, match="is damaged"):
        while read_up_to(stream, 1 << 20):
            pass


@both
def test_what_follows_a_member_must_be_one(compression: str) -> None:
    with opened(PACK[compression](b"text") + b"junk", compression) as stream:
        assert read_up_to(stream, 100) == b"text"
        with pytest.raises(Damaged, match="is damaged"):
            read_up_to(stream, 100)


@both
def test_zeros_after_the_last_member_are_filling(compression: str) -> None:
    with opened(PACK[compression](b"text") + b"\0" * 200_000, compression) as stream:
        assert read_up_to(stream, 100) == b"text"
        assert read_up_to(stream, 100) == b""


def test_deflate_without_gzip_is_not_taken_for_it() -> None:
    assert compression_of(zlib.compress(b"text")) is None
    assert compression_of(b"") is None


@both
def test_closing_closes_what_is_stored(compression: str) -> None:
    stored = io.BufferedReader(io.BytesIO(PACK[compression](b"text")))
    unpacked(stored, compression).close()
    assert stored.closed


def test_a_package_that_fails_by_itself_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr("vocabtrim.sources.streams.import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        needed("pyarrow", "why")


@both
def test_what_expands_a_thousandfold_takes_little_memory(
    compression: str, tmp_path: object
) -> None:
    path = f"{tmp_path}/x"
    with open(path, "wb") as stream:  # noqa: PTH123 (a string serves the script as well)
        stream.write(PACK[compression](bytes(200 << 20)))
    script = WATCH_MEMORY + (
        "import sys\n"
        "from vocabtrim.sources.files import DataFile\n"
        "from vocabtrim.sources.streams import read_up_to\n"
        "file = DataFile.find(sys.argv[1])\n"
        "before, total = _anonymous_kib(), 0\n"
        "with file.open() as stream:\n"
        "    while piece := read_up_to(stream, 1 << 20):\n"
        "        total += len(piece)\n"
        "assert total == 200 << 20\n"
        "print(peak_kib() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60 << 10


def standard_input(code: str, content: bytes) -> str:
    """Run code in a process with this standard input."""
    done = subprocess.run(
        [sys.executable, "-c", "from vocabtrim.sources.streams import *\n" + code],
        input=content,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode()


def test_standard_input_can_be_looked_at_and_then_read() -> None:
    content = os.urandom(3 << 20)
    code = (
        "import hashlib\n"
        "with standard_input() as first: head = read_up_to(first, 1 << 16)\n"
        "with standard_input() as again: assert read_up_to(again, 100) == head[:100]\n"
        "with standard_input() as stream: all = read_up_to(stream, 1 << 30)\n"
        "print(len(all), hashlib.sha256(all).hexdigest())\n"
        "try: standard_input()\n"
        "except CalibrationError as fault: print(fault)\n"
    )
    import hashlib

    digest = hashlib.sha256(content).hexdigest()
    assert standard_input(code, content) == (
        f"{3 << 20} {digest}\n-: it can be read only once; put the data into a file\n"
    )


def test_short_standard_input_can_be_read_again() -> None:
    code = "for _ in 'ab':\n    with standard_input() as one: print(read_up_to(one, 1 << 20))\n"
    assert standard_input(code, b"text") == "b'text'\nb'text'\n"
