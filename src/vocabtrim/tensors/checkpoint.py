"""A checkpoint as lazily read rows of bytes.

Opening reads `config.json` and the headers of the safetensors files, nothing
else: a 140 GB target opens as fast as a tiny drafter. Rows come out as views
of a read-only memory map, so what a caller does not touch is never read, and
what it touches is page cache and no memory of ours. The library `safetensors`
validates each file (truncated, overlapping, out of bounds); it does not tell
where a tensor lies, so the offsets are read from the header here.

Format: 8 bytes little-endian length n, n bytes of JSON, data
(huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vocabtrim.core.errors import CheckpointError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

CHUNK_BYTES = 8 << 20
"""Most bytes of a tensor that are held in memory at once."""

_NUMPY_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "F16": np.float16,
    "BF16": np.uint16,
    "U32": np.uint32,
    "I32": np.int32,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it is.

    Args:
        name: Its name in the checkpoint.
        dtype: As safetensors writes it: "BF16", "F8_E4M3", …
        shape: Dimensions, rows first.
        file: The file that holds it.
        offset: First byte, counted from the start of that file.
        nbytes: Its length in bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int

    @property
    def n_params(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row: everything below the first axis.

        Raises:
            CheckpointError: A scalar, or rows that do not end on a byte.
        """
        if not self.shape or (self.shape[0] and self.nbytes % self.shape[0]):
            raise CheckpointError(
                f"{self.name} ({self.dtype}, shape {list(self.shape)}) has no rows of whole bytes",
                path=self.file,
            )
        return self.nbytes // self.shape[0] if self.shape[0] else 0

    def bytes_at(self, itemsize: float | None) -> int:
        """Return the bytes of this tensor at `itemsize` bytes an element.

        Args:
            itemsize: Bytes an element; None for those it is stored in.
        """
        return self.nbytes if itemsize is None else round(self.n_params * itemsize)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A directory with `config.json` and safetensors weights, opened lazily.

    Made by `Checkpoint.open`; the constructor trusts its arguments.

    Args:
        path: The directory.
        config: The parsed `config.json`.
        tensors: Every tensor by name, in the order of names.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Read the config and the headers of `directory`.

        Raises:
            CheckpointError: There is no such directory, config or weights, or
                one of the files is damaged; the message names it.
        """
        if not directory.is_dir():
            raise CheckpointError("there is no such directory", path=directory)
        config = _read_json_object(directory / CONFIG_FILE)
        found: dict[str, TensorInfo] = {}
        for file in weight_files(directory):
            for info in _read_header(file):
                if info.name in found:
                    raise CheckpointError(
                        f"{info.name} is also in {found[info.name].file.name}", path=file
                    )
                found[info.name] = info
        _check_index(directory, found)
        ordered = {name: found[name] for name in sorted(found)}
        return cls(directory, MappingProxyType(config), MappingProxyType(ordered))

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the config that describes the language model."""
        nested = self.config.get("text_config")
        return nested if isinstance(nested, dict) else self.config

    def integer(self, key: str) -> int:
        """Return a positive integer of the language model's config.

        Raises:
            CheckpointError: The key is missing or something else.
        """
        value = self.text_config.get(key)
        if type(value) is not int or value <= 0:
            raise CheckpointError(
                f"{key} must be a positive integer, found {value!r}", path=self.path / CONFIG_FILE
            )
        return value

    def tensor(self, name: str) -> TensorInfo:
        """Return what is known of the tensor `name`.

        Raises:
            CheckpointError: The checkpoint has none of that name.
        """
        if name not in self.tensors:
            raise CheckpointError(f"there is no tensor {name}", path=self.path)
        return self.tensors[name]

    def rows(self, name: str) -> NDArray[np.uint8]:
        """Map a tensor as rows of bytes, whatever its dtype.

        Returns:
            [rows, row_bytes] uint8, read-only; a view of the file.

        Raises:
            CheckpointError: There is no such tensor, or it has no rows.
        """
        info = self.tensor(name)
        shape = (info.shape[0] if info.shape else 0, info.row_bytes)
        return _map(info).reshape(shape)

    def array(self, name: str) -> NDArray[Any]:
        """Map a tensor as numbers.

        Returns:
            The tensor, read-only; bfloat16, which numpy lacks, as the uint16 of
            its bits.

        Raises:
            CheckpointError: There is no such tensor, or numpy has no such type.
        """
        info = self.tensor(name)
        if info.dtype not in _NUMPY_DTYPES:
            raise CheckpointError(f"{name} is {info.dtype}, which is not read", path=info.file)
        return _map(info).view(_NUMPY_DTYPES[info.dtype]).reshape(info.shape)

    def chunks(self, name: str) -> Iterator[memoryview]:
        """Yield a tensor's bytes in order, at most `CHUNK_BYTES` at a time.

        Raises:
            CheckpointError: There is no such tensor.
        """
        data = _map(self.tensor(name))
        for start in range(0, data.size, CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES].data

    def content_hash(self) -> str:
        """Return "sha256:…" over the config and every weight file, in order of name."""
        digest = hashlib.sha256()
        for file in (self.path / CONFIG_FILE, *weight_files(self.path)):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
        return "sha256:" + digest.hexdigest()

    def tensor_hash(self, name: str) -> str:
        """Return "sha256:…" of one tensor's bytes."""
        digest = hashlib.sha256()
        for chunk in self.chunks(name):
            digest.update(chunk)
        return "sha256:" + digest.hexdigest()


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that make up a checkpoint, by name.

    `model.safetensors` wins over an index beside it, as in transformers.

    Raises:
        CheckpointError: There are none, or the index is damaged or names a file
            outside the directory.
    """
    if (directory / WEIGHTS_FILE).is_file():
        return [directory / WEIGHTS_FILE]
    index = directory / INDEX_FILE
    if not index.is_file():
        other = sorted(file.name for file in directory.glob("*.bin"))
        hint = f"; {other[0]} must be saved as safetensors first" if other else ""
        raise CheckpointError(
            f"it has neither {WEIGHTS_FILE} nor {INDEX_FILE}{hint}", path=directory
        )
    return [directory / name for name in sorted(set(_weight_map(index).values()))]


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = _read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("weight_map must map tensor names to files", path=index)
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not file:
            raise CheckpointError(
                f"the file of {tensor} must be a name, found {file!r}", path=index
            )
        # Judged by name, not by where it leads: hub caches link files to blobs elsewhere.
        parts = PurePosixPath(file)
        if parts.is_absolute() or ".." in parts.parts or "\\" in file or "\0" in file:
            raise CheckpointError(f"{file!r} lies outside the checkpoint's directory", path=index)
    return weight_map


def _check_index(directory: Path, found: Mapping[str, TensorInfo]) -> None:
    if (directory / WEIGHTS_FILE).is_file():
        return
    for name, file in _weight_map(directory / INDEX_FILE).items():
        if name not in found or found[name].file != directory / file:
            raise CheckpointError(
                f"{INDEX_FILE} promises {name}, which is not in it", path=directory / file
            )


def _read_json_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError("there is no such file, so this is no checkpoint", path=path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CheckpointError(f"it cannot be read ({fault.strerror})", path=path) from fault
    except ValueError as fault:
        raise CheckpointError(f"it is not JSON ({fault})", path=path) from fault
    if not isinstance(document, dict):
        raise CheckpointError(
            f"it must hold a JSON object, found {type(document).__name__}", path=path
        )
    return document


def _read_header(file: Path) -> Iterator[TensorInfo]:
    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as fault:
        raise CheckpointError(f"it is not a whole safetensors file ({fault})", path=file) from fault
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            yield TensorInfo(name, entry["dtype"], shape, file, 8 + length + begin, end - begin)


def _map(info: TensorInfo) -> NDArray[np.uint8]:
    """Map a tensor's bytes: [nbytes] uint8, read-only."""
    if info.nbytes == 0:
        # An empty range cannot be mapped.
        return np.frombuffer(b"", dtype=np.uint8)
    return np.memmap(info.file, np.uint8, mode="r", offset=info.offset, shape=(info.nbytes,))
