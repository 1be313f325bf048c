"""Arrow files, as `datasets` keeps and saves its data sets: each row is a record.

Both forms are read, the stream (what `datasets` writes) and the file. A local one
is mapped into memory, so that going through it costs next to nothing. A directory
that `Dataset.save_to_disk` wrote, with splits or without, stands for the Arrow
files that it lists (`files.py`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import BLOCK_BYTES, Block, Document, Reading, Skipped
from vocabtrim.sources.files import DataFile
from vocabtrim.sources.records import FORMS
from vocabtrim.sources.tables import BESIDE, Part, Rows, arrow, columns_of, cut_rows, read_rows

NAME = "arrow"
FILE_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"


@dataclass(frozen=True)
class Arrow:
    """Source of rows of Arrow files.

    Args:
        block_bytes: About how long blocks should be.
    """

    block_bytes: int = BLOCK_BYTES

    summary = "Arrow files and what `datasets` saved, columns named like the fields of records"

    @property
    def example(self) -> bytes:
        """A stream of two rows."""
        table = arrow().table({"text": ["One document.", "Another one."]})
        stream = io.BytesIO()
        with arrow().ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        return stream.getvalue()

    def matches(self, file: DataFile) -> bool:
        """Whether the file begins as either form does."""
        # a stream begins with its schema, which is never as long as 16 MiB
        stream = file.head.startswith(STREAM_MAGIC) and file.head[7:8] == b"\0"
        return stream or file.head.startswith(FILE_MAGIC)

    def blocks(self, file: DataFile, start: int = 0, line: int = 1) -> Iterator[Block]:
        """Cut a file within its record batches.

        Raises:
            CalibrationError: It is damaged from the beginning, or comes through a
                pipe, or compressed as a whole.
        """
        if not file.seekable:
            raise CalibrationError(
                "Arrow cannot be read through a pipe, nor compressed as a whole; "
                "unpack it into a file",
                path=file.name,
            )
        row = 0
        _, batches = _opened(file)
        try:
            for batch in batches:
                part = Part(row, batch.num_rows, _bytes_read(batch))
                yield from cut_rows(file, NAME, [part], start, self.block_bytes)
                row += batch.num_rows
        except (arrow().ArrowException, OSError) as fault:
            reason = f"it is damaged from this row on ({' '.join(str(fault).split())})"
            left_out = Skipped(file.name, row + 1, reason)
            yield Block(file, NAME, row, row, row + 1, 0, fault=left_out)

    def read(self, block: Block, reading: Reading) -> Iterator[Document | Skipped]:
        """Yield the documents of every row.

        Raises:
            CalibrationError: The file lacks the columns.
        """
        if block.fault is not None:
            return iter([block.fault])
        schema, batches = _opened(block.file)
        columns = columns_of(block.file, schema.names, reading)
        chosen = (batch.select(columns) for batch in batches)
        return read_rows(block, reading, 0, lambda: Rows(chosen, 0))


def _opened(file: DataFile) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a file, and its record batches from the first on."""
    pyarrow = arrow()
    if file.is_url:
        stored = pyarrow.PythonFile(file.open_stored())
    else:
        stored = pyarrow.memory_map(file.name)
    try:
        if file.head.startswith(FILE_MAGIC):
            reader = pyarrow.ipc.open_file(stored)
            batches = (reader.get_batch(one) for one in range(reader.num_record_batches))
            return reader.schema, batches
        stream = pyarrow.ipc.open_stream(stored)
        return stream.schema, iter(stream)
    except (pyarrow.ArrowException, OSError) as fault:
        reason = " ".join(str(fault).split())
        raise CalibrationError(f"it is no whole Arrow file ({reason})", path=file.name) from fault


def _bytes_read(batch: Any) -> int:
    """Return how long the columns of a batch are that may be read."""
    names = batch.schema.names
    read = [name for name in names if name in FORMS or name in BESIDE] or names
    return sum(batch.column(name).nbytes for name in read)


PLUGIN = Arrow()
