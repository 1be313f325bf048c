"""Parquet: rows of files that others wrote, in any order of blocks."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import datasets
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.reading import (
    READING,
    assert_blocks_do_not_matter,
    contents,
    read,
    reasons,
    sizes_of,
    told,
)
from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.files import DataFile
from vocabtrim.sources.parquet import PLUGIN, Parquet

datasets.disable_progress_bars()
SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
ROWS: list[dict[str, Any]] = [
    {"text": f"document {row} " * (row % 9), "messages": SAID if row % 3 == 0 else None, "n": row}
    for row in range(300)
]
EXPECTED = [row["messages"] or row["text"] for row in ROWS]


@pytest.fixture(params=["pyarrow", "datasets", "pandas"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "x"
    if request.param == "pyarrow":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=70)
    elif request.param == "datasets":
        datasets.Dataset.from_list(ROWS).to_parquet(path)
    else:
        pandas.DataFrame(ROWS).to_parquet(path)
    return path


def test_rows_are_records(path: Path) -> None:
    assert contents(read(PLUGIN, path)) == EXPECTED
    assert [line for line, _, _ in told(read(PLUGIN, path))] == list(range(1, 301))


def test_blocks_do_not_matter(path: Path) -> None:
    assert sizes_of(1).block == 1
    assert_blocks_do_not_matter(Parquet, path, [1000, 4000])


def test_blocks_can_be_read_in_any_order(path: Path) -> None:
    source = Parquet(1000)
    blocks = list(source.blocks(DataFile.find(path)))
    assert len(blocks) > 5
    shuffled = random.Random(1).sample(blocks, len(blocks))
    found = [one for block in shuffled for one in source.read(block, READING)]
    assert contents(sorted(found, key=lambda one: one.line)) == EXPECTED


def test_old_data_sets_store_conversations_by_column(tmp_path: Path) -> None:
    by_column = {"from": [["human", "gpt"]], "value": [["a", "b"]]}
    arrays = [pa.array(values, pa.list_(pa.string())) for values in by_column.values()]
    table = pa.table({"conversations": pa.StructArray.from_arrays(arrays, list(by_column))})
    pq.write_table(table, tmp_path / "x")
    assert contents(read(PLUGIN, tmp_path / "x")) == [SAID]


def test_ids_are_ids(tmp_path: Path) -> None:
    table = pa.table(
        {
            "completion_ids": pa.array([[5, 99], [100], None], pa.list_(pa.int32())),
            "completion": ["a", "b", "c"],
            "tokenizer": [READING.tokenizer] * 3,
        }
    )
    pq.write_table(table, tmp_path / "x")
    found = told(read(PLUGIN, tmp_path / "x"))
    assert found[0] == (1, "ids", [5, 99])
    assert found[1][1] == "skipped"
    assert found[2] == (3, "text", "c")


@pytest.mark.parametrize("packed", [True, False])
def test_parquet_through_a_pipe_or_packed_is_refused(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(PLUGIN.example) if packed else PLUGIN.example)
    file = DataFile.find(tmp_path / "x")
    piped = file if packed else DataFile(file.name, None, None, seekable=False)
    assert PLUGIN.matches(piped)
    with pytest.raises(CalibrationError, match=r"x: Parquet cannot be read through a pipe"):
        list(PLUGIN.blocks(piped))


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(PLUGIN.example[:-10])
    with pytest.raises(CalibrationError, match="x: it is no whole Parquet file"):
        read(PLUGIN, tmp_path / "x")


def test_a_page_that_is_damaged_costs_its_rows(tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = ["".join(rng.choices("abcdefgh", k=200)) for _ in range(400)]
    table = pa.table({"text": texts})
    pq.write_table(table, tmp_path / "x", row_group_size=200, use_dictionary=False)
    data = bytearray((tmp_path / "x").read_bytes())
    place = pq.ParquetFile(tmp_path / "x").metadata.row_group(1).column(0).data_page_offset
    data[place + 60 : place + 2000] = bytes(1940)
    (tmp_path / "x").write_bytes(data)
    found = read(PLUGIN, tmp_path / "x")
    ((line, reason),) = reasons(found)
    assert line == 201
    assert reason.startswith("rows from here to 400 cannot be read")
    assert contents(one for one in found if one.line < 201) == texts[:200]


def test_behind_a_url(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(PLUGIN.example)
    file = DataFile.find(f"file://{tmp_path}/x")
    blocks = PLUGIN.blocks(file)
    found = [one for block in blocks for one in PLUGIN.read(block, READING)]
    assert contents(found) == ["One document.", "Another one."]
