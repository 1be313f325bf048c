"""Blocks of GGUF: a row of any quantisation type is a range of bytes.

ggml packs 32, 64 or 256 neighbouring values of one row into a block with its
scales, and no block reaches into another row. So kept rows are copied without
being decoded, whatever the type, today's or a later one, and what a kept row
stood for it still stands for, bit for bit. A scale for the whole tensor (NVFP4)
is a tensor of its own and stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_types import stored_type
from vocabtrim.tensors.head import HeadTensor
from vocabtrim.tensors.packing.plain import PLUGIN as PLAIN


@dataclass(frozen=True)
class GgufBlocks:
    """Takes rows of blocks as they lie in the file."""

    def select(
        self, checkpoint: Checkpoint, head: HeadTensor, rows: NDArray[np.int64]
    ) -> Iterator[memoryview]:
        """Yield the bytes of `rows` [K], in their order, in small chunks.

        Raises:
            CheckpointError: The tensor is no matrix, or of no type of GGUF.
        """
        info = checkpoint.tensor(head.name)
        kind = stored_type(info.dtype, tensor=head.name, path=info.file)
        if len(info.shape) != 2 or not kind.fits(info.shape[1]):
            raise CheckpointError(
                f"{head.name} ({info.dtype}, shape {list(info.shape)}) is no matrix of whole "
                f"blocks of {kind.block}",
                path=info.file,
            )
        yield from PLAIN.select(checkpoint, head, rows)


PLUGIN = GgufBlocks()
