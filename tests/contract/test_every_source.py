"""What holds for every calibration source there is."""

from __future__ import annotations

import gzip
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.reading import READING, told
from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import (
    BLOCK_BYTES,
    LAST_ASKED,
    LONGEST_RECORD,
    SOURCES,
    Document,
    Skipped,
    Source,
    source_name_of,
)
from vocabtrim.sources.files import DataFile
from vocabtrim.tokens.messages import Conversation


@pytest.fixture(params=SOURCES.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def example(name: str, directory: Path) -> DataFile:
    """Write a source's example under a name that says nothing."""
    path = directory / "data"
    path.write_bytes(SOURCES.load(name).example)
    return DataFile.find(path)


def read(source: Source, file: DataFile, start: int = 0, line: int = 1) -> list[Document | Skipped]:
    blocks = source.blocks(file, start, line)
    return [one for block in blocks for one in source.read(block, READING)]


def test_it_says_what_it_is(name: str) -> None:
    summary = SOURCES.load(name).summary
    assert summary
    assert "\n" not in summary


def test_it_alone_reads_its_example(name: str, tmp_path: Path) -> None:
    file = example(name, tmp_path)
    others = [one for one in SOURCES.names() if one not in (name, LAST_ASKED)]
    assert SOURCES.load(name).matches(file)
    assert not any(SOURCES.load(one).matches(file) for one in others)
    assert source_name_of(file) == name


def test_its_example_has_documents_and_nothing_to_leave_out(name: str, tmp_path: Path) -> None:
    file = example(name, tmp_path)
    documents = read(SOURCES.load(name), file)
    assert documents
    for document in documents:
        assert isinstance(document, Document)
        assert document.file == file.name
        assert isinstance(document.content, str | Conversation | np.ndarray)
    lines = [document.line for document in documents]
    assert lines == sorted(lines)
    assert lines[0] >= 1


def test_blocks_name_their_source_follow_one_another_and_travel(name: str, tmp_path: Path) -> None:
    source, file = SOURCES.load(name), example(name, tmp_path)
    blocks = list(source.blocks(file))
    assert blocks
    for block in blocks:
        assert (block.source, block.file) == (name, file)
        assert block.start < block.stop
        assert len(block.data or b"") <= max(BLOCK_BYTES * 2, LONGEST_RECORD)
        assert pickle.loads(pickle.dumps(block)) == block
        sent = pickle.loads(pickle.dumps(block.without_data()))
        assert told(source.read(sent, READING)) == told(source.read(block, READING))
    for before, after in pairwise(blocks):
        assert (before.stop, before.line + before.lines) == (after.start, after.line)


def test_nothing_is_left_after_the_last_block(name: str, tmp_path: Path) -> None:
    source, file = SOURCES.load(name), example(name, tmp_path)
    *_, last = source.blocks(file)
    assert read(source, file, last.stop, last.line + last.lines) == []


def test_reading_twice_gives_the_same(name: str, tmp_path: Path) -> None:
    source, file = SOURCES.load(name), example(name, tmp_path)
    assert told(read(source, file)) == told(read(source, file))


def test_a_fault_is_given_as_it_is(name: str, tmp_path: Path) -> None:
    source, file = SOURCES.load(name), example(name, tmp_path)
    (block, *_) = source.blocks(file)
    fault = Skipped(file.name, 3, "why")
    faulty = type(block)(file, name, 0, 0, 3, 0, fault=fault)
    assert list(source.read(faulty, READING)) == [fault]


def test_what_is_packed_is_read_or_refused(name: str, tmp_path: Path) -> None:
    source, file = SOURCES.load(name), example(name, tmp_path)
    plain = told(read(source, file))
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(source.example))
    packed = DataFile.find(path)
    assert source_name_of(packed) == name
    if name in ("arrow", "parquet"):
        with pytest.raises(CalibrationError, match="compressed as a whole"):
            read(source, packed)
    else:
        assert told(read(source, packed)) == plain
