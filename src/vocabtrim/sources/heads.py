"""What the beginning of a file says that it is, where several sources have to agree.

JSON comes as records on lines, as one array, or as objects written over several
lines, and names say little: `.json` is used for all three. So content decides. A
name that promises records is held to it only where content says nothing: such a
file is never taken for text, so that what is damaged in it is left out and told,
and not counted as text full of braces.
"""

from __future__ import annotations

import json
import re
from typing import Any

from vocabtrim.sources.files import BOM, HEAD_BYTES, DataFile

LOOKED_AT = 16
"""Lines of the beginning by which a file is judged."""

_ONE_OBJECT = re.compile(rb"\s*\{\s*[\"}]")
_ARRAY = re.compile(rb"\s*\[\s*[\[{]")


def promises(file: DataFile, *suffixes: str) -> bool:
    """Whether the name of a file ends so, or would without `.gz` or `.zst`."""
    name = file.name.lower()
    for packed in (".gz", ".zst", ".zstd"):
        name = name.removesuffix(packed)
    return name.endswith(suffixes)


def holds_json_lines(head: bytes) -> bool:
    """Whether more than half of the first lines are JSON of their own.

    Several lines that are lists count too: streams are logged so. One alone is
    an array.
    """
    lines = head.removeprefix(BOM).splitlines()
    cut_off = len(head) >= HEAD_BYTES
    if cut_off and len(lines) == 1:
        return _ONE_OBJECT.match(lines[0]) is not None
    filled = [one for one in lines[: len(lines) - cut_off] if one and not one.isspace()]
    values = [_parsed(line) for line in filled[:LOOKED_AT]]
    objects = sum(isinstance(value, dict) for value in values)
    lists = sum(isinstance(value, list) for value in values)
    return objects * 2 > len(values) or (lists > 1 and (objects + lists) * 2 > len(values))


def begins_array(head: bytes) -> bool:
    """Whether a file begins like a JSON array of objects."""
    return _ARRAY.match(head.removeprefix(BOM)) is not None


def begins_object(head: bytes) -> bool:
    """Whether a file begins like a JSON object."""
    return _ONE_OBJECT.match(head.removeprefix(BOM)) is not None


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
