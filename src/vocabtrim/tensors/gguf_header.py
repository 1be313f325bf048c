"""The header of a GGUF file: where its metadata and its tensors lie.

A metadata entry is kept as a range of bytes and read only when asked for, so
that a tokenizer of half a million strings is stepped over, and written into
another file as it was: no type is guessed anew and no empty array loses its own.
Every length is held against the size of the file before it is used, and every count
against what the largest models have, so a damaged file costs one sentence and no
memory, also where it is a terabyte of holes.

Format: `docs/gguf.md` of ggml-org/ggml; the checks are those of llama.cpp's
`ggml/src/gguf.cpp`. Sizes of blocks come from the package `gguf`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_file import MAGIC, is_gguf
from vocabtrim.tensors.gguf_types import type_numbered
from vocabtrim.tensors.tensor_info import TensorInfo

VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"} | {
    12: "d"
}
_MAX_DIMENSIONS = 4

MOST_ENTRIES, MOST_TENSORS = 1 << 12, 1 << 17
"""Models have some dozens of entries, and thousands of tensors."""

MOST_ELEMENTS = 1 << 22
"""Of an array: the largest tokenizers have half a million merges."""

MOST_NAME_BYTES, MOST_TEXT_BYTES = 1 << 16, 16 << 20
"""Of a name, which the format limits so, and of a value: a long chat template has 100 KB."""

MOST_ARRAY_BYTES = 64 << 20
"""Of an array: half a million merges take ten."""

Value = int | float | bool | str


@dataclass(frozen=True)
class GgufEntry:
    """One metadata entry, as bytes of its file.

    Args:
        kind: Number of its type; that of its elements where it is an array.
        begin: First byte of the entry, its key included.
        value: First byte of the value.
        end: Byte behind the entry.
        count: Elements of an array; None for a single value.
    """

    kind: int
    begin: int
    value: int
    end: int
    count: int | None = None


@dataclass(frozen=True, eq=False)
class GgufHeader:
    """What a GGUF file says of itself; made by `read_header`.

    Args:
        path: The file.
        entries: Metadata by key, in the order of the file.
        tensors: Tensors by name, in the order of the file; `dtype` is ggml's
            name of the type, `shape` has rows first.
        alignment: Bytes to which tensors are padded.
    """

    path: Path
    entries: Mapping[str, GgufEntry]
    tensors: Mapping[str, TensorInfo]
    alignment: int

    def raw(self, key: str) -> bytes:
        """Return an entry's bytes: key, type and value."""
        entry = self.entries[key]
        return self._read(entry.begin, entry.end)

    def value(self, key: str) -> Value | None:
        """Return a number, a truth value or a text; None where there is none.

        Raises:
            CheckpointError: It is an array, or no UTF-8.
        """
        entry = self.entries.get(key)
        if entry is None:
            return None
        if entry.count is not None:
            raise CheckpointError(f"{key} is an array, and one value is expected", path=self.path)
        self._small(key, entry, MOST_TEXT_BYTES)
        data = self._read(entry.value, entry.end)
        if entry.kind == _STRING:
            return _text(data[8:], self.path)
        (number,) = struct.unpack("<" + _SCALARS[entry.kind], data)
        return number if isinstance(number, bool | float) else int(number)

    def text(self, key: str) -> str:
        """Return a text.

        Raises:
            CheckpointError: The file has none of that key.
        """
        value = self.value(key)
        if not isinstance(value, str):
            raise CheckpointError(f"{key} must be a text, found {value!r}", path=self.path)
        return value

    def count(self, key: str) -> int | None:
        """Return the number of elements of an array; None where there is none."""
        entry = self.entries.get(key)
        return None if entry is None else entry.count

    def texts(self, key: str) -> list[str]:
        """Return an array of texts; an empty list where there is none.

        Raises:
            CheckpointError: It is an array of something else, or no UTF-8.
        """
        entry = self.entries.get(key)
        if entry is None:
            return []
        if entry.count is None or entry.kind != _STRING:
            raise CheckpointError(f"{key} is no array of texts", path=self.path)
        self._small(key, entry, MOST_ARRAY_BYTES)
        data, at, found = self._read(entry.value, entry.end), 0, []
        length_at = struct.Struct("<Q").unpack_from
        for _ in range(entry.count):
            end = at + 8 + length_at(data, at)[0]
            found.append(_text(data[at + 8 : end], self.path))
            at = end
        return found

    def numbers(self, key: str) -> list[int | float]:
        """Return an array of numbers; an empty list where there is none.

        Raises:
            CheckpointError: It is an array of texts, or no array.
        """
        entry = self.entries.get(key)
        if entry is None:
            return []
        if entry.count is None or entry.kind == _STRING:
            raise CheckpointError(f"{key} is no array of numbers", path=self.path)
        form = f"<{entry.count}{_SCALARS[entry.kind]}"
        return list(struct.unpack(form, self._read(entry.value, entry.end)))

    def _small(self, key: str, entry: GgufEntry, most: int) -> None:
        if entry.end - entry.value > most:
            raise CheckpointError(
                f"{key} has {entry.end - entry.value:,} bytes, more than any model's",
                path=self.path,
            )

    def _read(self, begin: int, end: int) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(begin)
            return stream.read(end - begin)


def read_header(path: Path) -> GgufHeader:
    """Read where everything in a GGUF file lies.

    Raises:
        CheckpointError: It is no GGUF file, of a version or with a type that is
            not read, or damaged; the message says where.
    """
    if not path.is_file() or not is_gguf(path):
        raise CheckpointError("it is no GGUF file", path=path)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data, path)
        version = cursor.number("I")
        if version not in VERSIONS:
            swapped = version & 0xFFFF == 0
            what = "is big-endian" if swapped else f"has GGUF version {version}"
            raise CheckpointError(f"it {what}, which is not read", path=path)
        n_tensors = cursor.count(MOST_TENSORS, "tensors")
        n_entries = cursor.count(MOST_ENTRIES, "entries")
        entries = {}
        for _ in range(n_entries):
            key, entry = _entry(cursor)
            if key in entries:
                raise cursor.damaged(f"{key} is there twice")
            entries[key] = entry
        found = [_tensor(cursor) for _ in range(n_tensors)]
        alignment = _alignment(data, entries, cursor)
        start = -(-cursor.at // alignment) * alignment
        tensors = _placed(found, start, cursor)
    return GgufHeader(path, MappingProxyType(entries), MappingProxyType(tensors), alignment)


class _Cursor:
    """Steps through a mapped file and never past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path = data, path
        self.at = len(MAGIC)
        self.size = len(data)

    def damaged(self, what: str) -> CheckpointError:
        """Return the error that says what is wrong, and where."""
        return CheckpointError(
            f"it is a damaged GGUF file (byte {self.at}: {what})", path=self.path
        )

    def skip(self, nbytes: int) -> int:
        """Step over `nbytes`; return where they began."""
        begin = self.at
        if nbytes > self.size - begin:
            raise self.damaged(f"{nbytes} more bytes are promised than there are")
        self.at = begin + nbytes
        return begin

    def number(self, form: str) -> int:
        """Read one little-endian number."""
        begin = self.skip(struct.calcsize("<" + form))
        return int(struct.unpack_from("<" + form, self.data, begin)[0])

    def count(self, most: int, what: str) -> int:
        """Read how many of something there are."""
        found = self.number("Q")
        if found > most:
            raise self.damaged(f"{found:,} {what} are promised, more than any model has")
        return found

    def string(self) -> str:
        """Read a name behind its length."""
        begin = self.skip(self.count(MOST_NAME_BYTES, "bytes of a name"))
        return _text(self.data[begin : self.at], self.path)


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise CheckpointError(f"it is a damaged GGUF file ({fault})", path=path) from fault


def _entry(cursor: _Cursor) -> tuple[str, GgufEntry]:
    begin = cursor.at
    key = cursor.string()
    kind, count = cursor.number("I"), None
    if kind == _ARRAY:
        kind, count = cursor.number("I"), cursor.count(MOST_ELEMENTS, f"elements of {key}")
    value = cursor.at
    if kind == _STRING:
        _skip_strings(cursor, 1 if count is None else count)
    elif kind in _SCALARS:
        cursor.skip(struct.calcsize("<" + _SCALARS[kind]) * (1 if count is None else count))
    else:
        raise cursor.damaged(f"{key} is of the unknown type {kind}")
    return key, GgufEntry(kind, begin, value, cursor.at, count)


def _skip_strings(cursor: _Cursor, count: int) -> None:
    # Half a million of them: no method call for each.
    data, at, last = cursor.data, cursor.at, cursor.size - 8
    length_at = struct.Struct("<Q").unpack_from
    for _ in range(count):
        if at > last:
            break
        at += 8 + length_at(data, at)[0]
    else:
        if at <= cursor.size:
            cursor.at = at
            return
    raise cursor.damaged(f"{count} texts do not fit into the file")


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Read a tensor's name, shape with rows first, type and offset."""
    name = cursor.string()
    dimensions = cursor.number("I")
    if dimensions > _MAX_DIMENSIONS:
        raise cursor.damaged(f"{name} has {dimensions} dimensions")
    sizes = [cursor.number("Q") for _ in range(dimensions)]
    return name, tuple(reversed(sizes)), cursor.number("I"), cursor.number("Q")


def _alignment(data: mmap.mmap, entries: Mapping[str, GgufEntry], cursor: _Cursor) -> int:
    entry = entries.get(ALIGNMENT_KEY)
    if entry is None:
        return DEFAULT_ALIGNMENT
    alignment = int.from_bytes(data[entry.value : entry.end], "little")
    if entry.count is not None or alignment.bit_count() != 1 or alignment > cursor.size:
        raise cursor.damaged(f"{ALIGNMENT_KEY} is no power of two")
    return alignment


def _placed(
    found: list[tuple[str, tuple[int, ...], int, int]], start: int, cursor: _Cursor
) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for name, shape, number, offset in found:
        kind = type_numbered(number)
        if kind is None:
            raise CheckpointError(
                f"{name} is of type {number}, which the installed gguf does not know",
                path=cursor.path,
            )
        if name in tensors:
            raise cursor.damaged(f"{name} is there twice")
        if not kind.fits(shape[-1] if shape else 1):
            raise cursor.damaged(f"{name} has rows of {shape[-1]} values, not whole blocks")
        nbytes = kind.bytes_of(shape)
        if start + offset + nbytes > cursor.size:
            raise CheckpointError(
                f"it is a damaged GGUF file: {name} ends {start + offset + nbytes - cursor.size} "
                "bytes behind its end",
                path=cursor.path,
            )
        tensors[name] = TensorInfo(name, kind.name, shape, cursor.path, start + offset, nbytes)
    return tensors
