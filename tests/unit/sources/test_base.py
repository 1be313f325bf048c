"""Sources: blocks that travel, and which source reads which file."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import SOURCES, Block, source_name_of, source_of
from vocabtrim.sources.csv import Csv
from vocabtrim.sources.files import DataFile

JSON_LINE = b'{"text": "a", "n": 1}\n'


def name_of(directory: Path, name: str, content: bytes) -> str:
    path = directory / name
    path.write_bytes(content)
    return source_name_of(DataFile.find(path))


def test_a_block_goes_to_another_process_without_the_head_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"line\n" * 20_000)
    file = DataFile.find(path)
    assert len(file.head) == 1 << 16
    block = Block(file, "text", 5, 10, 2, 1, b"line\n")
    sent = pickle.dumps(block)
    assert len(sent) < 1000
    assert pickle.loads(sent) == block


def test_a_block_without_data_fetches_it(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"one\ntwo\n")
    block = Block(DataFile.find(tmp_path / "x"), "text", 4, 8, 2, 1, b"two\n")
    assert block.without_data().data is None
    assert block.fetched() == block.without_data().fetched() == b"two\n"
    assert block.with_data(b"other").fetched() == b"other"


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        ("x", b"Some text.\n", "text"),
        ("x", b"", "text"),
        ("x", b"  \n", "text"),
        ("x.c", b"{\n  int x;\n}", "text"),
        ("x", b'"text"', "text"),
        ("x", b'{"text": "\xff"}', "json"),
        ("x.txt", b'\n \r\n\t{"text": 1}', "jsonl"),
        ("x", b"\xef\xbb\xbf" + JSON_LINE, "jsonl"),
        ("x", b"cut off }\n" + JSON_LINE * 2, "jsonl"),
        ("x", b'{"text": "' + b"a" * 200_000 + b'"}\n', "jsonl"),
        ("x.json", JSON_LINE * 2, "jsonl"),
        ("x.jsonl", b"plain", "jsonl"),
        ("x.NDJSON", b"", "jsonl"),
        ("x.jsonl", b'{"text": "cut', "jsonl"),
        ("x", b'[{"choices": []}]\n[{"choices": []}]\n', "jsonl"),
        ("x.jsonl", b"[" + JSON_LINE.strip() + b"]", "json"),
        ("x", b" [\n" + JSON_LINE.strip() + b"\n]", "json"),
        ("x.json", b'{\n"text": 1}', "json"),
        ("x.json", b"plain", "json"),
        ("x.csv", b"plain", "csv"),
        ("x.tsv.gz", gzip.compress(b"plain", mtime=0), "csv"),
        ("x", b"id,text\n1,a\n", "csv"),
        ("x", b'text\tid\n"a\tb\n"\t1\n', "csv"),
        ("x", b"text,id\n", "text"),
        ("x", b"text,id\nprose, with, commas\n", "text"),
        ("x", b"one,two\n1,2\n", "text"),
        ("x", b"text\n1\n", "text"),
        ("x", b"text,text\n1,2\n", "text"),
        ("x.gz", gzip.compress(JSON_LINE, mtime=0), "jsonl"),
    ],
)
def test_content_decides_who_reads(tmp_path: Path, name: str, content: bytes, source: str) -> None:
    assert name_of(tmp_path, name, content) == source
    assert source_of(DataFile.find(tmp_path / name)) is SOURCES.load(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x01", "x: cannot tell what is in this file: none of arrow, csv, .* reads it"),
        (b"BZh91AY&SY", "x: this is bzip2: unpack it first"),
        (b"\xfd7zXZ\x00", "x: this is xz: unpack it first"),
        (b"PK\x03\x04\x00", "x: this is zip: unpack it first"),
        ("text".encode("utf-16"), "x: this is UTF-16: convert it first"),
    ],
)
def test_what_no_source_reads_is_refused_with_what_to_do(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        name_of(tmp_path, "x", content)


def test_two_sources_for_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Csv, "matches", lambda *_: True)
    with pytest.raises(CalibrationError, match="csv and jsonl read it"):
        name_of(tmp_path, "x", JSON_LINE)
