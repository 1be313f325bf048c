"""Plain text: one file is one document.

Bytes are decoded as UTF-8 and otherwise left as they are, carriage returns too;
only a byte-order mark at the start is dropped. A file beyond 4 MiB is cut into
several documents, so that memory stays bounded: after the last line end that no
white space follows (a tokenizer may take line ends and indentation as one
token); without such a one after any line end, then before a space, then
between two characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import BOM, HEAD_BYTES, Document, Reading, holds_records

# each takes all it can and leaves at least the one byte that it looks at
_UP_TO_A_CUT = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (rb".*\n(?=\S)", rb".*\n(?=.)", rb".+(?= )", rb".+(?=[^\x80-\xbf])")
)


@dataclass(frozen=True)
class Text:
    """Source of plain text.

    Args:
        piece_bytes: Longest document; a longer file is cut.
    """

    piece_bytes: int = 4 << 20

    summary = "plain UTF-8 text, one document a file"
    example = b"One document,\non two lines.\n"

    def matches(self, path: Path) -> bool:
        """Whether the file is neither binary nor records."""
        with path.open("rb") as stream:
            binary = b"\0" in stream.read(HEAD_BYTES)
        return not binary and not holds_records(path)

    def read(self, path: Path, reading: Reading) -> Iterator[Document]:
        """Yield the file, or the pieces of it.

        Raises:
            CalibrationError: It is not UTF-8; names file and line.
        """
        rest, line, stop = b"", 1, 0
        with path.open("rb") as stream:
            while block := rest + stream.read(self.piece_bytes + 1 - len(rest)):
                cut = len(block) if len(block) <= self.piece_bytes else self._cut(block)
                piece, rest = block[:cut], block[cut:]
                text = _decoded(piece if stop else piece.removeprefix(BOM), path, line)
                stop += len(piece)
                yield Document(path, line, stop, text)
                line += piece.count(b"\n")

    def _cut(self, block: bytes) -> int:
        """Return where to cut a block that is one byte longer than a piece."""
        matches = (pattern.match(block) for pattern in _UP_TO_A_CUT)
        return next((match.end() for match in matches if match), self.piece_bytes)


def _decoded(piece: bytes, path: Path, line: int) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise CalibrationError(
            f"byte {piece[fault.start]:#04x} is not UTF-8; convert the file first",
            path=path,
            line=line + piece.count(b"\n", 0, fault.start),
        ) from fault


PLUGIN = Text()
