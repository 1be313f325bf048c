"""A checkpoint as lazily read rows of bytes.

Opening reads `config.json` and what the weight files say they hold, nothing
else: a 140 GB target opens as fast as a tiny drafter. Rows come out as views
of a read-only memory map, so what a caller does not touch is never read, and
what it touches is page cache and no memory of ours. Which files those are, and
where in them a tensor lies, is `weight_files.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.tensor_info import TensorInfo
from vocabtrim.tensors.weight_files import (
    WEIGHTS_FILE,
    read_json_object,
    stored_tensors,
    weight_files,
)

__all__ = ["CHUNK_BYTES", "CONFIG_FILE", "WEIGHTS_FILE", "Checkpoint", "TensorInfo"]

CONFIG_FILE = "config.json"

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


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A directory with `config.json` and weights, opened lazily.

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
        """Read the config of `directory` and which tensors it holds.

        Raises:
            CheckpointError: There is no such directory, config or weights, or
                one of the files is damaged; the message names it.
            MissingExtra: The weights are `.bin` files, and torch is not installed.
        """
        if not directory.is_dir():
            raise CheckpointError("there is no such directory", path=directory)
        config = read_json_object(directory / CONFIG_FILE)
        tensors = stored_tensors(directory)
        return cls(directory, MappingProxyType(config), MappingProxyType(tensors))

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the config that describes the language model.

        It is nested in models that also see, and in the drafters of speculators.
        """
        for key in ("text_config", "transformer_layer_config"):
            nested = self.config.get(key)
            if isinstance(nested, dict):
                return nested
        return self.config

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


def _map(info: TensorInfo) -> NDArray[np.uint8]:
    """Map a tensor's bytes: [nbytes] uint8, read-only."""
    if info.nbytes == 0:
        # An empty range cannot be mapped.
        return np.frombuffer(b"", dtype=np.uint8)
    return np.memmap(info.file, np.uint8, mode="r", offset=info.offset, shape=(info.nbytes,))
