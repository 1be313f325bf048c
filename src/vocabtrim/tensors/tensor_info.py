"""Where a tensor lies and what it is, whatever container holds it.

A container (safetensors, PyTorch's `.bin`) is read once, for its directory; from
then on a tensor is a file, an offset and a length, and the rest of the package
maps those bytes. Nothing here opens a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vocabtrim.core.errors import CheckpointError


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
