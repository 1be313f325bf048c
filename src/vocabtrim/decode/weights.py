"""Tensors of a checkpoint as torch tensors: all of one, or the kept rows of a head.

Bytes come through `tensors/`, which knows where a head's rows are and how they
are packed; only kept rows are ever read. Values are converted to the dtype in
which the pair runs, the same for full and trimmed drafters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.tensors.checkpoint import Checkpoint, TensorInfo
from vocabtrim.tensors.head import HeadTensor, select_rows
from vocabtrim.tensors.head_source import HeadSource

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_tensors(
    checkpoint: Checkpoint, dtype: torch.dtype, *, without: frozenset[str] = frozenset()
) -> dict[str, torch.Tensor]:
    """Read every floating-point tensor of a checkpoint but those named.

    Raises:
        CheckpointError: A tensor is of a type that is not decoded with.
    """
    return {
        name: read_tensor(checkpoint, name, dtype)
        for name in checkpoint.tensors
        if name not in without
    }


def read_tensor(checkpoint: Checkpoint, name: str, dtype: torch.dtype) -> torch.Tensor:
    """Read one tensor.

    Raises:
        CheckpointError: There is none of that name, or it is of a type that is
            not decoded with.
    """
    info = checkpoint.tensor(name)
    return _as_torch(info, b"".join(checkpoint.chunks(name)), info.shape, dtype)


def read_head(source: HeadSource, vocab: DraftVocab, dtype: torch.dtype) -> ReducedHead:
    """Read the rows of `vocab` from a head.

    Args:
        source: Where the head is and which ids it holds.
        vocab: Ids to keep; all of them are held.
        dtype: Of the result.

    Raises:
        VocabError: An id has no row.
        CheckpointError: The head is of a type that is not decoded with.
    """
    rows = source.rows_of(vocab)
    parts: Mapping[str, HeadTensor] = source.tensors
    read = {}
    for head in parts.values():
        info = source.checkpoint.tensor(head.name)
        data = b"".join(select_rows(source.checkpoint, head, rows))
        read[head.role] = _as_torch(info, data, (rows.size, *info.shape[1:]), dtype)
    return ReducedHead(read["weight"], vocab, read.get("bias"))


def _as_torch(
    info: TensorInfo, data: bytes, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    if info.dtype not in _DTYPES:
        raise CheckpointError(
            f"{info.name} is {info.dtype}, and decoding reads {', '.join(_DTYPES)}", path=info.file
        )
    raw = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    return raw.view(_DTYPES[info.dtype]).reshape(shape).to(dtype)
