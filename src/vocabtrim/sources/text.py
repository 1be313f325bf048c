"""Plain text: one file is one document.

Bytes are decoded as UTF-8 and otherwise left as they are, carriage returns and
NUL too; only a byte-order mark at the start is dropped. A line with a byte that
is not UTF-8 is left out, and the rest of the text stays.

A file beyond 4 MiB is cut into several documents, so that memory stays bounded:
after the last line end that no white space follows (a tokenizer may take line
ends and indentation as one token); without such a one after any line end, then
before a space, then between two characters. Each is a block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import Block, Document, Reading, Skipped
from vocabtrim.sources.cutting import damaged, line_ends
from vocabtrim.sources.files import BOM, DataFile
from vocabtrim.sources.streams import Damaged, read_up_to

NAME = "text"

# takes all it can, and leaves at least the byte that it looks at
_UP_TO_A_LINE = re.compile(rb".*\n(?=\S)", re.DOTALL)


@dataclass(frozen=True)
class Text:
    """Source of plain text.

    Args:
        piece_bytes: Longest document; a longer file is cut.
    """

    piece_bytes: int = 4 << 20

    summary = "plain UTF-8 text, one document a file"
    example = b"One document,\non two lines.\n"

    def matches(self, file: DataFile) -> bool:
        """Whether the file is not binary; others have been asked before."""
        return b"\0" not in file.head

    def blocks(self, file: DataFile, start: int = 0, line: int = 1) -> Iterator[Block]:
        """Cut a file into its documents."""
        rest = b""
        try:
            with file.open(start) as stream:
                while True:
                    rest += read_up_to(stream, self.piece_bytes + 1 - len(rest))
                    if not rest:
                        return
                    whole = len(rest) <= self.piece_bytes
                    piece = rest if whole else rest[: self._cut(rest)]
                    block = Block(
                        file, NAME, start, start + len(piece), line, line_ends(piece), piece
                    )
                    yield block
                    start, line = block.stop, line + block.lines
                    rest = rest[len(piece) :]
        except Damaged as fault:
            yield damaged(file, NAME, start, line, fault)

    def read(self, block: Block, reading: Reading) -> Iterator[Document | Skipped]:
        """Yield the document of a block, and before it the lines left out of it.

        Raises:
            CalibrationError: A field is asked for, and text has none.
        """
        if block.fault is not None:
            yield block.fault
            return
        if reading.field is not None:
            raise CalibrationError(
                f"this is plain text, which has no field {reading.field!r}", path=block.file.name
            )
        data = block.fetched()
        data = data if block.start else data.removeprefix(BOM)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            lines, faults = _sound_lines(data, block)
            yield from faults
            if not lines:
                return
            text = "".join(lines)
        if data:
            yield Document(block.file.name, block.line, text)

    def _cut(self, rest: bytes) -> int:
        """Return where to cut bytes of which there is one more than a piece may have."""
        line = rest.rfind(b"\n", 0, -1) + 1
        if line:
            found = _UP_TO_A_LINE.match(rest)
            return found.end() if found else line
        space = rest.rfind(b" ", 1)
        if space > 0:
            return space
        # a character has three bytes at most behind its first
        whole = (cut for cut in range(self.piece_bytes, self.piece_bytes - 4, -1) if cut > 0)
        return next((cut for cut in whole if rest[cut] & 0xC0 != 0x80), self.piece_bytes)


def _sound_lines(data: bytes, block: Block) -> tuple[list[str], list[Skipped]]:
    """Return the lines that are UTF-8, with their ends, and a note for each other."""
    lines: list[str] = []
    faults: list[Skipped] = []
    for number, raw in enumerate(data.splitlines(keepends=True), block.line):
        try:
            lines.append(raw.decode("utf-8"))
        except UnicodeDecodeError:
            faults.append(Skipped(block.file.name, number, "the line is not UTF-8 text"))
    return lines, faults


PLUGIN = Text()
