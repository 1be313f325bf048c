"""Identities: they change when a file does; hashes are those of the contents."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.calibration import put
from tests.tiny_tokenizer import CHATML, write_tokenizer
from vocabtrim.core.errors import CalibrationError
from vocabtrim.pipeline.counting import identities as module
from vocabtrim.pipeline.counting.identities import (
    NOT_HASHED,
    Hashes,
    identity,
    tokenizer_identity,
)
from vocabtrim.pipeline.counting.inputs import Piece, Place, Task
from vocabtrim.sources.base import Block
from vocabtrim.sources.files import DataFile


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_a_file_that_grows_or_is_written_again_is_another(tmp_path: Path) -> None:
    path = put(tmp_path / "a", "text")
    file = DataFile.find(path)
    first = identity(file)
    assert identity(file) == first
    put(path, "text and more")
    grown = identity(file)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000))
    touched = identity(file)
    path.unlink()
    assert len({first, grown, touched, identity(file)}) == 4


def test_a_tokenizer_is_all_of_its_files(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path / "t")
    first = tokenizer_identity(directory)
    put(directory / "README.md", "unrelated")
    assert tokenizer_identity(directory) == first
    assert tokenizer_identity(directory / "tokenizer.json") == first
    write_tokenizer(tmp_path / "t", template=CHATML + " ")
    other_template = tokenizer_identity(directory)
    put(directory / "generation_config.json", "{}")
    assert len({first, other_template, tokenizer_identity(directory)}) == 3


def test_hashes_of_files(tmp_path: Path) -> None:
    files = [DataFile.find(put(tmp_path / name, name * 9_000)) for name in "abc"]
    with Hashes(files) as hashes:
        found = hashes.wait()
    assert found == {str(tmp_path / name): sha256((name * 9_000).encode()) for name in "abc"}


def test_leaving_does_not_wait_for_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(4 << 30)
    began = time.monotonic()
    with Hashes([DataFile.find(path)]):
        pass
    assert time.monotonic() - began < 1.0


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    file = DataFile.find(put(tmp_path / "a", "text"))
    Path(file.name).unlink()
    with (
        Hashes([file]) as hashes,
        pytest.raises(CalibrationError, match="a: it cannot be read"),
    ):
        hashes.wait()


STDIN = DataFile("-", None, None, seekable=False)


def passing(file: DataFile, *blocks: tuple[int, bytes]) -> str:
    """Return what standard input is known by after blocks of it have gone by."""
    pieces = [
        Piece(Block(file, "jsonl", start, start + len(data), 1, 1, data), frozenset())
        for start, data in blocks
    ]
    tasks = [Task((piece,), Place(0, piece.block.stop, 1)) for piece in pieces]
    with Hashes([file]) as hashes:
        assert list(hashes.passing(iter(tasks))) == tasks
        return hashes.wait()["-"]


def test_standard_input_is_hashed_as_it_goes_by() -> None:
    assert passing(STDIN, (0, b"one\n"), (4, b"two\n")) == sha256(b"one\ntwo\n")


@pytest.mark.parametrize(
    "blocks", [[(0, b"one"), (9, b"two")], [(2, b"one")], [(0, b"one"), (9, b""), (3, b"two")], []]
)
def test_what_was_not_read_as_a_whole_has_no_hash(blocks: list[tuple[int, bytes]]) -> None:
    assert passing(STDIN, *blocks) == NOT_HASHED


def test_compressed_standard_input_has_no_hash() -> None:
    assert passing(DataFile("-", "gzip", None, seekable=False), (0, b"one")) == NOT_HASHED


def test_a_url_is_known_by_what_its_server_says() -> None:
    fsspec = pytest.importorskip("fsspec")
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/known.txt", b"one")
    first = identity(DataFile.find("memory://known.txt"))
    with Hashes([DataFile.find("memory://known.txt")]) as hashes:
        assert hashes.wait()["memory://known.txt"].startswith("fsspec:")
    filesystem.pipe("/known.txt", b"one and two")
    assert identity(DataFile.find("memory://known.txt")) != first
    assert module.SLICE_BYTES >= 1 << 16
