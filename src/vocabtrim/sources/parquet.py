"""Parquet: each row is a record.

The footer says how many rows and bytes each row group has; a block lies within
one. Reading needs a file whose end can be looked at, so one that is compressed as
a whole, or comes through a pipe, is refused: Parquet compresses by itself.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import BLOCK_BYTES, Block, Document, Reading, Skipped
from vocabtrim.sources.files import DataFile
from vocabtrim.sources.records import FORMS
from vocabtrim.sources.streams import needed
from vocabtrim.sources.tables import (
    BESIDE,
    Part,
    Rows,
    arrow,
    columns_of,
    cut_rows,
    read_rows,
)

NAME = "parquet"
MAGIC = b"PAR1"
BATCH_ROWS = 512


@dataclass(frozen=True)
class Parquet:
    """Source of rows of Parquet files.

    Args:
        block_bytes: About how long blocks should be.
    """

    block_bytes: int = BLOCK_BYTES

    summary = "Parquet, its columns named like the fields of JSON records"

    @property
    def example(self) -> bytes:
        """A file of two rows."""
        table = arrow().table({"text": ["One document.", "Another one."]})
        stream = io.BytesIO()
        _parquet().write_table(table, stream)
        return stream.getvalue()

    def matches(self, file: DataFile) -> bool:
        """Whether the file begins as Parquet does."""
        return file.head.startswith(MAGIC)

    def blocks(self, file: DataFile, start: int = 0, line: int = 1) -> Iterator[Block]:
        """Cut a file within its row groups.

        Raises:
            CalibrationError: It is damaged, or cannot be read from its end.
        """
        if not file.seekable:
            raise CalibrationError(
                "Parquet cannot be read through a pipe, nor compressed as a whole; "
                "unpack it into a file",
                path=file.name,
            )
        with _opened(file) as table:
            parts = _parts(table.metadata)
        return cut_rows(file, NAME, parts, start, self.block_bytes)

    def read(self, block: Block, reading: Reading) -> Iterator[Document | Skipped]:
        """Yield the documents of every row.

        Raises:
            CalibrationError: The file is damaged, or lacks the columns.
        """
        if block.fault is not None:
            return iter([block.fault])
        table = _opened(block.file)
        parts = _parts(table.metadata)
        group = bisect_right([part.first for part in parts], block.start) - 1
        columns = columns_of(block.file, table.schema_arrow.names, reading)

        def rows() -> Rows:
            batches = table.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns)
            return Rows(iter(batches), parts[group].first)

        return read_rows(block, reading, group, rows)


def _parquet() -> Any:
    return needed("pyarrow.parquet", "Parquet can be read with pyarrow only")


def _opened(file: DataFile) -> Any:
    parquet, faults = _parquet(), (arrow().ArrowException, OSError)
    source = file.open_stored() if file.is_url else file.name
    try:
        # a buffer bounds what is held of a column chunk, which can be all of a file
        return parquet.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False)
    except FileNotFoundError:
        raise
    except faults as fault:
        reason = " ".join(str(fault).split())
        raise CalibrationError(f"it is no whole Parquet file ({reason})", path=file.name) from fault


def _parts(metadata: Any) -> list[Part]:
    parts: list[Part] = []
    first = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(one) for one in range(group.num_columns)]
        read = [one for one in chunks if _column(one) in FORMS or _column(one) in BESIDE] or chunks
        size = sum(chunk.total_uncompressed_size for chunk in read)
        parts.append(Part(first, group.num_rows, size))
        first += group.num_rows
    return parts


def _column(chunk: Any) -> str:
    return str(chunk.path_in_schema).partition(".")[0]


PLUGIN = Parquet()
