"""A GGUF file, opened: its metadata, and its tensors as maps of the file.

A thin layer over the reader of the `gguf` package, which takes damaged files
less kindly than a user needs. What the tensors mean is the business of
`gguf_layouts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError

MAGIC = b"GGUF"


@dataclass(frozen=True, eq=False)
class GgufFile:
    """An opened GGUF file: its metadata, and its tensors as maps of the file.

    Args:
        path: The file.
        metadata: Every key with its value.
        tensors: gguf's own readers by tensor name.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Read the metadata of `path`.

        Raises:
            CheckpointError: It is no GGUF file, or a damaged one.
        """
        import gguf

        if not is_gguf(path):
            raise CheckpointError("it is no GGUF file", path=path)
        try:
            reader = gguf.GGUFReader(path)
            metadata = {key: field.contents() for key, field in reader.fields.items()}
        except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as fault:
            raise CheckpointError(f"it is a damaged GGUF file ({fault})", path=path) from fault
        return cls(path, metadata, {tensor.name: tensor for tensor in reader.tensors})

    def value(self, key: str) -> Any:
        """Return a metadata value.

        Raises:
            CheckpointError: The file does not have it.
        """
        if key not in self.metadata:
            raise CheckpointError(f"its metadata lacks {key}", path=self.path)
        return self.metadata[key]


def is_gguf(path: Path) -> bool:
    """Return whether the file begins as GGUF files do."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC
