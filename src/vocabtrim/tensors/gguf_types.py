"""The types in which GGUF stores tensors: how many bytes a row takes.

A row of any of them is a whole number of blocks, and a block stands for a few
values of one row: so rows can be copied without being understood. The layouts
that interleave rows (`Q4_0_4_4` and the like) were withdrawn from the format,
and files that hold them are refused as of an unknown type.

Names, numbers and block sizes are those of the package `gguf`, which follows
llama.cpp; a newer type needs a newer `gguf`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vocabtrim.core.errors import CheckpointError

PLAIN_FLOATS = frozenset({"F32", "F16", "BF16"})
"""Types that GGUF and safetensors store alike."""


@dataclass(frozen=True)
class GgufType:
    """A type.

    Args:
        name: As ggml calls it, in capitals.
        block: Values in a block.
        block_bytes: Bytes of a block.
    """

    name: str
    block: int
    block_bytes: int

    def fits(self, width: int) -> bool:
        """Return whether a row of `width` values is a whole number of blocks."""
        return width % self.block == 0

    def bytes_of(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a tensor whose rows are whole blocks."""
        return math.prod(shape) // self.block * self.block_bytes


def type_named(name: str) -> GgufType | None:
    """Return the type of a name in capitals; None where there is none."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if name not in GGMLQuantizationType.__members__:
        return None
    return GgufType(name, *GGML_QUANT_SIZES[GGMLQuantizationType[name]])


def type_numbered(number: int) -> GgufType | None:
    """Return the type of a number in a tensor's description; None where there is none."""
    from gguf.constants import GGMLQuantizationType

    known = {int(kind): kind.name for kind in GGMLQuantizationType}
    return type_named(known[number]) if number in known else None


def stored_type(name: str, *, tensor: str, path: Path) -> GgufType:
    """Return the type in which a tensor is stored.

    Raises:
        CheckpointError: GGUF has no such type.
    """
    kind = type_named(name)
    if kind is None:
        raise CheckpointError(f"{tensor} is {name}, which GGUF cannot hold", path=path)
    return kind


def type_number(name: str) -> int:
    """Return the number that stands for a type in a file."""
    from gguf.constants import GGMLQuantizationType

    return int(GGMLQuantizationType[name])
