"""Files: what a user's words lead to, and how the bytes of each are read."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import fsspec
import pytest
import zstandard

from vocabtrim.core.errors import CalibrationError, MissingExtra
from vocabtrim.sources import streams
from vocabtrim.sources.files import DataFile, find_files

datasets.disable_progress_bars()
DATA = datasets.Dataset.from_dict({"text": ["one", "two"]})


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.txt", "a.jsonl", "deep/er/c.txt", ".hidden", "deep/.git/x", "odd [1].txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*data: str | Path) -> list[str]:
    return [file.name for file in find_files(data)]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (["b.txt"], ["b.txt"]),
        (["b.txt", "a.jsonl", "b.txt", "./b.txt"], ["a.jsonl", "b.txt"]),
        (["."], ["a.jsonl", "b.txt", "deep/er/c.txt", "odd [1].txt"]),
        (["deep", "b.txt"], ["b.txt", "deep/er/c.txt"]),
        (["*.txt"], ["b.txt", "odd [1].txt"]),
        (["**/*.txt"], ["b.txt", "deep/er/c.txt", "odd [1].txt"]),
        (["d*"], ["deep/er/c.txt"]),
        (["odd [1].txt"], ["odd [1].txt"]),
        ([".hidden"], [".hidden"]),
        ([Path("b.txt")], ["b.txt"]),
    ],
)
def test_arguments_lead_to_files_sorted_and_once(
    tree: Path, data: list[str | Path], found: list[str]
) -> None:
    assert names(*data) == found
    assert names(*data[::-1]) == found
    assert tree.is_absolute()


def test_a_file_behind_two_names_is_one(tree: Path) -> None:
    (tree / "also.txt").symlink_to(tree / "b.txt")
    assert names("b.txt", "also.txt") == names("also.txt", "b.txt") == ["also.txt"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gone.txt", "gone.txt: no such file or directory"),
        ("*.gone", r"\*\.gone: no such file or directory, and no file matches"),
        ("empty", "empty: there are no files in this directory"),
        ("fifo", "fifo: this is neither a file nor a directory"),
        ("memory://gone", "memory://gone: it cannot be opened"),
        ("memory://gone*", "no file matches it"),
        ("nonsense://x", "nonsense://x: it cannot be opened"),
    ],
)
def test_an_argument_that_leads_nowhere_is_refused(tree: Path, argument: str, message: str) -> None:
    os.mkfifo(tree / "fifo")
    with pytest.raises(CalibrationError, match=message):
        find_files(["b.txt", argument])


def test_what_describes_a_directory_is_not_part_of_its_data(tmp_path: Path) -> None:
    for name in ("data.jsonl", "README.md", "LICENSE", "notes/readme.txt", "notes/more.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    assert names(tmp_path) == [str(tmp_path / "data.jsonl"), str(tmp_path / "notes/more.txt")]
    # named by itself it is data like any other
    assert names(tmp_path / "README.md") == [str(tmp_path / "README.md")]


def test_a_saved_dataset_is_the_files_that_it_lists(tmp_path: Path) -> None:
    DATA.save_to_disk(tmp_path / "one", num_shards=2)
    (tmp_path / "one" / "cache-0123.arrow").write_bytes(b"of a filter")
    datasets.DatasetDict(train=DATA, test=DATA).save_to_disk(tmp_path / "both")
    (tmp_path / "beside.txt").write_text("text")
    shown = [Path(name).relative_to(tmp_path).as_posix() for name in names(tmp_path)]
    assert shown == [
        "beside.txt",
        "both/test/data-00000-of-00001.arrow",
        "both/train/data-00000-of-00001.arrow",
        "one/data-00000-of-00002.arrow",
        "one/data-00001-of-00002.arrow",
    ]
    assert len(names(tmp_path / "one")) == 2


def test_a_saved_dataset_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    DATA.save_to_disk(tmp_path, num_shards=2)
    (tmp_path / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(CalibrationError, match="lacks its file data-00001"):
        find_files([tmp_path])
    (tmp_path / "state.json").write_text("[]")
    with pytest.raises(CalibrationError, match=r"state\.json: it does not list the files"):
        find_files([tmp_path])


def test_json_that_only_has_the_names_of_a_dataset_stays_data(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"text": "a"}))
    assert names(tmp_path) == [str(tmp_path / "state.json")]


@pytest.mark.parametrize(
    ("content", "compression"),
    [
        (b"plain text", None),
        (b"", None),
        (b"\x1f", None),
        (gzip.compress(b"plain text"), "gzip"),
        (zstandard.compress(b"plain text"), "zstd"),
        (b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.compress(b"plain text"), "zstd"),
    ],
    # gzip holds the time, and test processes must agree on names
    ids=["plain", "empty", "one byte", "gzip", "zstd", "zstd behind a skipped frame"],
)
def test_compression_is_told_by_content(
    tmp_path: Path, content: bytes, compression: str | None
) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    (file,) = find_files([path])
    assert (file.compression, file.size) == (compression, len(content))
    assert file.seekable == (compression is None)
    held = content if compression is None else b"plain text"
    with file.open() as stream:
        assert stream.read() == held
    assert file.head == held
    assert file.read_range(1, 4) == held[1:4]
    with file.open(3) as stream:
        assert stream.read() == held[3:]
    with file.open(1 << 20) as stream:
        assert stream.read() == b""


def test_the_head_ends_where_a_stream_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(os.urandom(5000))[:3000])
    assert 2000 < len(DataFile.find(tmp_path / "x").head) < 3000
    (tmp_path / "x").write_bytes(gzip.compress(b"text")[:5])
    assert DataFile.find(tmp_path / "x").head == b""


def test_a_file_that_went_away_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"text")
    file = DataFile.find(tmp_path / "x")
    (tmp_path / "x").unlink()
    with pytest.raises(CalibrationError, match=r"x: it cannot be opened \(No such file"):
        file.read_range(0, 1)


def test_a_file_that_was_sent_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"text")
    file = DataFile.find(tmp_path / "x")
    assert file.head == b"text"
    assert pickle.loads(pickle.dumps(file)) == file


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    for name, content in [
        ("bucket/a.txt", b"one"),
        ("bucket/deep/b.txt.gz", gzip.compress(b"two")),
        ("bucket/README.md", b"about"),
        ("bucket/.hidden", b"about"),
    ]:
        filesystem.pipe_file(f"/{name}", content)
    yield filesystem
    filesystem.store.clear()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("memory://bucket/a.txt", ["memory://bucket/a.txt"]),
        ("memory://bucket", ["memory:///bucket/a.txt", "memory:///bucket/deep/b.txt.gz"]),
        ("memory://bucket/*.txt", ["memory:///bucket/a.txt"]),
        ("memory://bucket/**/*.gz", ["memory:///bucket/deep/b.txt.gz"]),
    ],
)
def test_urls_are_files_directories_and_patterns_too(
    memory: fsspec.AbstractFileSystem, url: str, found: list[str]
) -> None:
    shown = [name.replace("memory:///", "memory://") for name in names(url)]
    assert shown == [name.replace("memory:///", "memory://") for name in found]
    assert memory.exists("/bucket/a.txt")


def test_what_is_behind_a_url_is_read(memory: fsspec.AbstractFileSystem) -> None:
    plain, packed = find_files(["memory://bucket"])
    assert (plain.size, plain.seekable, plain.is_url) == (3, True, True)
    assert plain.read_range(1, 3) == b"ne"
    assert (packed.compression, packed.seekable) == ("gzip", False)
    with packed.open() as stream:
        assert stream.read() == b"two"
    assert memory.exists("/bucket/a.txt")


def test_a_dataset_behind_a_url(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    DATA.save_to_disk(tmp_path / "saved")
    memory.put(str(tmp_path / "saved"), "/bucket2", recursive=True)
    (name,) = names("memory://bucket2")
    assert name.endswith("bucket2/data-00000-of-00001.arrow")


def test_a_chain_of_urls(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.txt", "one")
        archive.writestr("two.txt", "two")
    url = f"zip://*.txt::file://{tmp_path}/a.zip"
    found = find_files([url])
    assert [file.name for file in found] == [
        url.replace("*", "one"),
        url.replace("*", "two"),
    ]
    assert [file.head for file in found] == [b"one", b"two"]


def test_without_a_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r"fsspec only: run `pip install vocabtrim\[data\]`"):
        find_files(["s3://bucket/x"])
    if sys.version_info < (3, 14):
        monkeypatch.setitem(sys.modules, "zstandard", None)
        (tmp_path / "x").write_bytes(zstandard.compress(b"text"))
        with pytest.raises(MissingExtra, match=r"zstandard only: run `pip install vocabtrim\[d"):
            DataFile.find(tmp_path / "x").open()


@pytest.fixture
def piped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Standard input is this file; what it holds is set before it is looked at."""
    path = tmp_path / "piped"
    path.write_bytes(gzip.compress(b"from a pipe"))
    streams._kept_input.cache_clear()
    with path.open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        yield path
        monkeypatch.undo()
    streams._kept_input.cache_clear()


def test_standard_input_is_a_file_without_size(piped: Path) -> None:
    (file,) = find_files(["-"])
    assert file == DataFile("-", "gzip", None, seekable=False)
    assert file.head == b"from a pipe"
    with file.open() as stream:
        assert stream.read() == b"from a pipe"
    assert piped.exists()
