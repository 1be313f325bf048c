"""Sources: which files, and which source for each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import find_files, holds_records, source_of
from vocabtrim.sources.jsonl import Jsonl
from vocabtrim.sources.text import Text


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.txt", "a.jsonl", "deep/er/c.txt", ".hidden", "deep/.git/x", "odd [1].txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert [str(path) for path in find_files(data)] == found
    assert find_files(data[::-1]) == find_files(data)
    assert tree.is_absolute()


def test_a_file_behind_two_names_is_one(tree: Path) -> None:
    (tree / "also.txt").symlink_to(tree / "b.txt")
    assert [path.name for path in find_files(["b.txt", "also.txt"])] == ["also.txt"]
    assert [path.name for path in find_files(["also.txt", "b.txt"])] == ["also.txt"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gone.txt", "gone.txt: no such file or directory"),
        ("*.gone", r"\*\.gone: no such file or directory, and no file matches"),
        ("empty", "empty: there are no files in this directory"),
        ("fifo", "fifo: this is neither a file nor a directory"),
    ],
)
def test_an_argument_that_leads_nowhere_is_refused(tree: Path, argument: str, message: str) -> None:
    os.mkfifo(tree / "fifo")
    with pytest.raises(CalibrationError, match=message):
        find_files(["b.txt", argument])


@pytest.mark.parametrize(
    ("name", "content", "records"),
    [
        ("x", b'{"text": 1}\nnonsense', True),
        ("x.txt", b'\n \r\n\t{"text": 1}', True),
        ("x", b'\xef\xbb\xbf{"text": 1}\n', True),
        ("x", b'{"text": "\xff"}', False),
        ("x.c", b"{\n  int x;\n}", False),
        ("x", b'["text"]', False),
        ("x", b'"text"', False),
        ("x", b"", False),
        ("x", b"  \n", False),
        ("x", b"{" * 100_000, False),
        ("x.jsonl", b"plain", True),
        ("x.NDJSON", b"", True),
        ("x.json", b'{\n"text": 1}', True),
    ],
)
def test_records_are_told_by_their_first_line(
    tmp_path: Path, name: str, content: bytes, records: bool
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert holds_records(path) == records
    assert isinstance(source_of(path), Jsonl if records else Text)


def test_a_long_first_record_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'{"text": "' + b"a" * 200_000 + b'"}\n')
    assert holds_records(path)


def test_what_no_source_reads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"\x00\x01")
    with pytest.raises(CalibrationError, match=r"weights: cannot tell .* none of jsonl, text"):
        source_of(path)


def test_two_sources_for_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'{"text": 1}')
    monkeypatch.setattr(Text, "matches", lambda *_: True)
    with pytest.raises(CalibrationError, match="jsonl and text reads it"):
        source_of(path)


def test_what_describes_a_directory_is_not_part_of_its_data(tmp_path: Path) -> None:
    for name in ("data.jsonl", "README.md", "LICENSE", "notes/readme.txt", "notes/more.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    found = [path.relative_to(tmp_path).as_posix() for path in find_files([tmp_path])]
    assert found == ["data.jsonl", "notes/more.txt"]
    # named by itself it is data like any other
    assert find_files([tmp_path / "README.md"]) == [tmp_path / "README.md"]
