"""Arrow: both forms, and what `datasets` saves."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from tests.reading import READING, assert_blocks_do_not_matter, contents, read, reasons
from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.arrow import PLUGIN, Arrow
from vocabtrim.sources.base import source_name_of
from vocabtrim.sources.files import DataFile, find_files

datasets.disable_progress_bars()
ROWS: list[dict[str, Any]] = [{"n": row, "text": f"document {row} " * 9} for row in range(300)]
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture(params=["stream", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    table = pa.Table.from_pylist(ROWS)
    new = pa.ipc.new_stream if request.param == "stream" else pa.ipc.new_file
    with new(tmp_path / "x", table.schema) as writer:
        writer.write_table(table, max_chunksize=70)
    return tmp_path / "x"


def test_both_forms_are_told_and_read(path: Path) -> None:
    assert source_name_of(DataFile.find(path)) == "arrow"
    assert contents(read(PLUGIN, path)) == TEXTS
    assert_blocks_do_not_matter(Arrow, path, [1000, 4000])


def test_behind_a_url(path: Path) -> None:
    blocks = PLUGIN.blocks(DataFile.find(f"file://{path}"))
    assert contents(one for block in blocks for one in PLUGIN.read(block, READING)) == TEXTS


@pytest.mark.parametrize("shards", [1, 3])
def test_what_datasets_saves(tmp_path: Path, shards: int) -> None:
    saved = datasets.Dataset.from_list(ROWS)
    saved.select(range(250)).save_to_disk(tmp_path / "d", num_shards=shards)
    files = find_files([tmp_path / "d"])
    assert len(files) == shards
    found = [contents(read(PLUGIN, Path(file.name))) for file in files]
    assert sum(found, []) == TEXTS[:250]  # noqa: RUF017 (three of them)


def test_a_selection_is_saved_as_it_is_seen(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list(ROWS).filter(lambda row: row["n"] % 2 == 0).shuffle(seed=1)
    saved.save_to_disk(tmp_path / "d")
    (file,) = find_files([tmp_path / "d"])
    assert contents(read(PLUGIN, Path(file.name))) == saved["text"][:]


def test_a_stream_that_breaks_off_counts_to_there(path: Path) -> None:
    whole = path.read_bytes()
    if whole.startswith(b"ARROW1"):
        path.write_bytes(whole[:-3000])
        with pytest.raises(CalibrationError, match="x: it is no whole Arrow file"):
            read(PLUGIN, path)
        return
    path.write_bytes(whole[: len(whole) // 2])
    found = read(PLUGIN, path)
    ((line, reason),) = reasons(found)
    assert line == len(found)
    assert reason.startswith("it is damaged from this row on (")
    assert contents(found[:-1]) == TEXTS[: len(found) - 1]
    assert len(found) % 70 == 1


def test_arrow_through_a_pipe_or_packed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(PLUGIN.example))
    with pytest.raises(CalibrationError, match="x: Arrow cannot be read through a pipe"):
        read(PLUGIN, tmp_path / "x")


def test_a_stream_that_is_no_arrow_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xff\xff\xff\x10\0\0\0" + b"junk" * 10)
    with pytest.raises(CalibrationError, match="x: it is no whole Arrow file"):
        read(PLUGIN, tmp_path / "x")
