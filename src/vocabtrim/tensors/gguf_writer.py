"""Writing a GGUF file as a stream, metadata entries as the bytes they were.

gguf's own writer encodes metadata anew and holds tensors in memory; here both
are copied. The description of every tensor comes before the first byte of data,
so the writer is told all of them first and then pulls their bytes in chunks.
Tensors lie in the order in which they were announced, each padded to the
alignment: llama.cpp refuses a file where an offset is not where the last tensor
ended.

It writes where it is told; all-or-nothing is `core.manifest.atomic_file`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_file import MAGIC
from vocabtrim.tensors.gguf_header import GgufHeader
from vocabtrim.tensors.gguf_types import type_number

Chunks = Iterable[bytes | memoryview]

_VERSION = 3
_UINT32, _STRING = 4, 8


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    chunks: Callable[[], Chunks]


class GgufWriter:
    """Collects metadata and tensors, then streams them into one file.

    Args:
        alignment: Bytes to which tensors are padded; what the metadata says of
            it must agree.
    """

    def __init__(self, alignment: int) -> None:
        self._alignment = alignment
        self._entries: dict[str, bytes] = {}
        self._tensors: dict[str, _Tensor] = {}
        self._head_bytes = 0

    def copy_entries(self, header: GgufHeader, *, without: frozenset[str]) -> None:
        """Announce the metadata of another file, byte for byte, but for some keys."""
        for key in header.entries:
            if key not in without:
                self._entries[key] = header.raw(key)

    def add_text(self, key: str, text: str) -> None:
        """Announce a text, behind the entries that are there."""
        self._entries[key] = _string(key) + struct.pack("<I", _STRING) + _string(text)

    def add_number(self, key: str, number: int) -> None:
        """Announce an unsigned number of 32 bits, behind the entries that are there."""
        self._entries[key] = _string(key) + struct.pack("<II", _UINT32, number)

    def add(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        nbytes: int,
        chunks: Callable[[], Chunks],
    ) -> None:
        """Announce a tensor whose bytes come in chunks.

        Args:
            name: Its name.
            dtype: ggml's name of its type.
            shape: Its dimensions, rows first.
            nbytes: Bytes that `chunks` will give, checked while writing.
            chunks: Called once, when its turn comes.

        Raises:
            CheckpointError: A tensor of that name is already there.
        """
        if name in self._tensors:
            raise CheckpointError(f"the tensor {name} would be written twice")
        self._tensors[name] = _Tensor(dtype, shape, nbytes, chunks)

    def write(self, path: Path) -> None:
        """Write everything to `path`.

        Raises:
            CheckpointError: A tensor gave more or fewer bytes than announced.
            OSError: The disk is full, or not writable.
        """
        with path.open("wb") as stream:
            self._head_bytes = stream.write(self._head())
            stream.write(self._padding(self._head_bytes))
            for name, tensor in self._tensors.items():
                written = sum(stream.write(chunk) for chunk in tensor.chunks())
                if written != tensor.nbytes:
                    raise CheckpointError(
                        f"{name} was announced with {tensor.nbytes} bytes and gave {written}",
                        path=path,
                    )
                stream.write(self._padding(written))

    def write_head(self, path: Path) -> None:
        """Write metadata that changed since `write` over what is in the file.

        Raises:
            CheckpointError: It takes another number of bytes than before.
        """
        head = self._head()
        if len(head) != self._head_bytes:
            raise CheckpointError(
                f"its metadata takes {len(head)} bytes in place of {self._head_bytes}", path=path
            )
        with path.open("r+b") as stream:
            stream.write(head)

    def _head(self) -> bytes:
        counts = struct.pack("<IQQ", _VERSION, len(self._tensors), len(self._entries))
        parts = [MAGIC, counts, *self._entries.values()]
        offset = 0
        for name, tensor in self._tensors.items():
            sizes = tuple(reversed(tensor.shape))
            form = f"<I{len(sizes)}QIQ"
            kind = type_number(tensor.dtype)
            parts += [_string(name), struct.pack(form, len(sizes), *sizes, kind, offset)]
            offset += tensor.nbytes + len(self._padding(tensor.nbytes))
        return b"".join(parts)

    def _padding(self, written: int) -> bytes:
        return bytes(-written % self._alignment)


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data
