"""Sources read from end to end, and what they give as values that can be compared.

`Told` leaves the file's name out, so that the same content in two files, or in
blocks of two sizes, can be held against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.sources.base import Document, Reading, Skipped, Source
from vocabtrim.sources.cutting import Sizes
from vocabtrim.sources.files import DataFile
from vocabtrim.tokens.messages import Conversation

READING = Reading("sha256:ours", 100)

Told = tuple[int, str, Any]
"""Line, kind and content of what a source gave."""


def read(source: Source, path: Path, reading: Reading = READING) -> list[Document | Skipped]:
    """Read a file with one source, block after block."""
    file = DataFile.find(path)
    return [one for block in source.blocks(file) for one in source.read(block, reading)]


def told(items: Iterable[Document | Skipped]) -> list[Told]:
    """Return what was given as plain values."""
    return [_told(one) for one in items]


def contents(items: Iterable[Document | Skipped]) -> list[Any]:
    """Return what the documents hold; a record that was left out fails the test."""
    found = told(items)
    assert all(kind != "skipped" for _, kind, _ in found), found
    return [content for _, _, content in found]


def reasons(items: Iterable[Document | Skipped]) -> list[tuple[int, str]]:
    """Return line and reason of all that was left out."""
    return [(one.line, one.reason) for one in items if isinstance(one, Skipped)]


def assert_blocks_do_not_matter(
    of_size: Callable[[int], Source], path: Path, sizes: Iterable[int]
) -> None:
    """Assert that blocks of any size, and resuming after any, give what one block gives."""
    file = DataFile.find(path)
    one_block = of_size(1 << 20)
    whole = told(read(one_block, path))
    for size in sizes:
        source = of_size(size)
        blocks = list(source.blocks(file))
        per_block = [told(source.read(block, READING)) for block in blocks]
        assert list(chain.from_iterable(per_block)) == whole, size
        for number, block in enumerate(blocks):
            again = told(source.read(block.without_data(), READING))
            assert again == per_block[number], (size, number)
            if block.fault is not None:
                # what is damaged has no end to go on from (`Inputs.tasks` ends none there)
                assert block is blocks[-1], (size, number)
                continue
            rest = list(source.blocks(file, block.stop, block.line + block.lines))
            assert rest == blocks[number + 1 :], (size, number)


def sizes_of(block: int, longest: int = 1 << 20) -> Sizes:
    """Return sizes with blocks of `block` bytes."""
    return Sizes(block, longest)


def _told(one: Document | Skipped) -> Told:
    if isinstance(one, Skipped):
        return one.line, "skipped", one.reason
    content: Any = one.content
    if isinstance(content, Conversation):
        kind, content = "conversation", [dict(message) for message in content.messages]
    elif isinstance(content, np.ndarray):
        assert content.dtype == np.int64
        kind, content = "ids", content.tolist()
    else:
        kind = "text"
    return one.line, kind, content
