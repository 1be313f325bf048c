"""Records: one JSON value a line.

Lines are records, and blank ones nothing. What a record holds is decided record
by record, in `records.py`. A line that is none is left out, and so is the last one
where the file ends in the middle of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Block, Document, Reading, Skipped
from vocabtrim.sources.cutting import SIZES, LineScanner, Sizes, cut
from vocabtrim.sources.files import BOM, DataFile
from vocabtrim.sources.heads import begins_array, holds_json_lines, promises
from vocabtrim.sources.records import documents_of
from vocabtrim.sources.values import parsed

NAME = "jsonl"


@dataclass(frozen=True)
class Jsonl:
    """Source of records, one a line.

    Args:
        sizes: How long blocks and records may be.
    """

    sizes: Sizes = SIZES

    summary = "JSON records, one a line: chats, completions, server logs, text, prompts"
    example = b'{"text": "One document."}\n{"prompt": "Another one.", "domain": "questions"}\n'

    def matches(self, file: DataFile) -> bool:
        """Whether the file holds JSON on lines, or its name says so."""
        if holds_json_lines(file.head):
            return True
        return promises(file, ".jsonl", ".ndjson") and not begins_array(file.head)

    def blocks(self, file: DataFile, start: int = 0, line: int = 1) -> Iterator[Block]:
        """Cut a file between lines."""
        return cut(file, NAME, start, line, scanner=lambda _: LineScanner(), sizes=self.sizes)

    def read(self, block: Block, reading: Reading) -> Iterator[Document | Skipped]:
        """Yield the documents of every record."""
        if block.fault is not None:
            yield block.fault
            return
        data, name = block.fetched(), block.file.name
        data = data if block.start else data.removeprefix(BOM)
        for line, raw in enumerate(data.splitlines(), block.line):
            if not raw or raw.isspace():
                continue
            try:
                record = parsed(raw)
            except CalibrationError as fault:
                yield Skipped(name, line, f"{fault}; one record a line is needed")
                continue
            yield from documents_of(record, reading, name, line)


PLUGIN = Jsonl()
