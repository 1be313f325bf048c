"""Writing a checkpoint's weights as a stream.

A safetensors file states every name, type and shape before the first byte of
data, so the writer is told all tensors first and then pulls their bytes, one
tensor after the other, in chunks. Nothing is held but one chunk, whatever the
size of the head or of the file. Wider types come first and names ascend, as the
library itself writes: every tensor is aligned, and equal inputs give equal files.

It writes where it is told; all-or-nothing is `core.manifest.atomic_directory`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import CHUNK_BYTES, Checkpoint

Chunks = Iterable[bytes | memoryview]

_DTYPE_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    chunks: Callable[[], Chunks]

    @property
    def alignment(self) -> int:
        return self.nbytes // max(math.prod(self.shape), 1)


class CheckpointWriter:
    """Collects tensors, then streams them into one safetensors file."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

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
            dtype: As safetensors writes it.
            shape: Its dimensions.
            nbytes: Bytes that `chunks` will give, checked while writing.
            chunks: Called once, when its turn comes.

        Raises:
            CheckpointError: A tensor of that name is already there.
        """
        if name in self._entries:
            raise CheckpointError(f"the tensor {name} would be written twice")
        self._entries[name] = _Entry(dtype, shape, nbytes, chunks)

    def add_array(self, name: str, array: NDArray[Any], *, dtype: str | None = None) -> None:
        """Announce a tensor that is in memory.

        Args:
            name: Its name.
            array: Its values; the bits of a type that numpy lacks come as
                unsigned integers with `dtype`.
            dtype: The type to write, where it is not the array's own.
        """
        data = np.ascontiguousarray(array)
        kind = _DTYPE_NAMES[data.dtype.name] if dtype is None else dtype
        self.add(name, kind, array.shape, data.nbytes, lambda: _chunked(data.reshape(-1)))

    def copy(self, source: Checkpoint, name: str) -> None:
        """Announce a tensor of `source`, to be written byte for byte.

        Raises:
            CheckpointError: It has no such tensor, or the name is taken.
        """
        info = source.tensor(name)
        self.add(name, info.dtype, info.shape, info.nbytes, lambda: source.chunks(name))

    def write(self, path: Path) -> None:
        """Write all tensors to `path`.

        Raises:
            CheckpointError: A tensor gave more or fewer bytes than announced.
            OSError: The disk is full, or not writable.
        """
        with path.open("wb") as stream:
            stream.write(self._header())
            for name, entry in self._ordered():
                written = sum(stream.write(chunk) for chunk in entry.chunks())
                if written != entry.nbytes:
                    raise CheckpointError(
                        f"{name} was announced with {entry.nbytes} bytes and gave {written}",
                        path=path,
                    )

    def write_hollow(self, path: Path) -> None:
        """Write a file of the same names, types and shapes whose bytes are all a hole.

        Raises:
            OSError: The disk is not writable.
        """
        header = self._header()
        with path.open("wb") as stream:
            stream.write(header)
            stream.truncate(len(header) + sum(entry.nbytes for entry in self._entries.values()))

    def _ordered(self) -> list[tuple[str, _Entry]]:
        return sorted(self._entries.items(), key=lambda item: (-item[1].alignment, item[0]))

    def _header(self) -> bytes:
        """Return all that comes before the bytes of the first tensor."""
        # transformers refuses files that do not say which framework wrote them.
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, entry in self._ordered():
            header[name] = {
                "dtype": entry.dtype,
                "shape": list(entry.shape),
                "data_offsets": [end, end + entry.nbytes],
            }
            end += entry.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text


def _chunked(data: NDArray[Any]) -> Chunks:
    step = max(CHUNK_BYTES // data.itemsize, 1)
    for start in range(0, data.size, step):
        yield data[start : start + step].data
