"""Writing a head in another type than the one it is stored in.

A draft-only head decides which tokens are proposed and never which are emitted,
so fewer bits in it cost acceptance at most. Rows are decoded to float32 and
encoded again by gguf's own quantisers, a chunk at a time; rows that have the
type already are passed on as they are. Trimming does none of this unless asked
to: by default no bit of a kept row changes.

What a container can hold is another matter: block types are GGUF's alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_types import PLAIN_FLOATS, GgufType, type_named
from vocabtrim.tensors.tensor_info import TensorInfo


def writable_type(name: str, *, hidden: int, gguf: bool) -> GgufType:
    """Return the type that `--head-type` names.

    Args:
        name: As the user wrote it: "q8_0", "F16", …
        hidden: H, values in a row.
        gguf: Whether the drafter is a GGUF file.

    Raises:
        CheckpointError: There is no such type, gguf cannot write it, the
            container cannot hold it, or a row is no whole number of blocks.
    """
    kind = type_named(name.upper())
    if kind is None or not _can_encode(kind):
        raise CheckpointError(
            f"no head can be written as {name}; there are {', '.join(encodable_types())} "
            "(for others, run llama-quantize on the full drafter: its rows are kept as they are)"
        )
    if not gguf and kind.name not in PLAIN_FLOATS:
        raise CheckpointError(
            f"{kind.name} is a type of GGUF, and this drafter is safetensors: its head can be "
            f"written as {', '.join(sorted(PLAIN_FLOATS))}, or convert the drafter to GGUF first"
        )
    if not kind.fits(hidden):
        raise CheckpointError(
            f"{kind.name} packs {kind.block} values in a block, and the head's rows of {hidden} "
            "are no whole number of blocks"
        )
    return kind


def encodable_types() -> list[str]:
    """Return the names of the types that gguf can write, by bytes a value, largest first."""
    from gguf.constants import GGMLQuantizationType

    kinds = [type_named(name) for name in GGMLQuantizationType.__members__]
    known = [kind for kind in kinds if kind is not None and _can_encode(kind)]
    ordered = sorted(known, key=lambda kind: (-kind.block_bytes / kind.block, kind.name))
    return [kind.name for kind in ordered]


def retyped(
    chunks: Iterable[bytes | memoryview], source: TensorInfo, kind: GgufType
) -> Iterator[bytes | memoryview]:
    """Yield chunks of whole rows in another type.

    Args:
        chunks: Rows of `source`, as `select_rows` gives them.
        source: The tensor that the rows are of.
        kind: The type wanted.

    Raises:
        CheckpointError: The rows cannot be decoded, or hold a number that the
            type cannot.
    """
    if source.dtype == kind.name:
        yield from chunks
        return
    for chunk in chunks:
        rows = np.frombuffer(chunk, dtype=np.uint8).reshape(-1, source.row_bytes)
        values = _decoded(rows, source)
        encoded = _encoded(values, kind)
        if kind.name in PLAIN_FLOATS and not np.array_equal(
            np.isfinite(_decoded_as(encoded, kind.name)), np.isfinite(values)
        ):
            raise CheckpointError(
                f"{source.name} holds numbers beyond the range of {kind.name}", path=source.file
            )
        yield encoded.reshape(-1).data


def _decoded(rows: NDArray[np.uint8], source: TensorInfo) -> NDArray[np.float32]:
    try:
        return _decoded_as(rows, source.dtype)
    except (NotImplementedError, KeyError) as fault:
        raise CheckpointError(
            f"{source.name} is {source.dtype}, which cannot be written in another type; "
            "leave out --head-type to keep its rows as they are",
            path=source.file,
        ) from fault


def _decoded_as(rows: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    """Return [rows, H] float32.

    Raises:
        KeyError: gguf has no type of that name.
        NotImplementedError: It cannot decode it.
    """
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    values: NDArray[np.float32] = dequantize(rows, GGMLQuantizationType[dtype])
    return values


def _encoded(values: NDArray[np.float32], kind: GgufType) -> NDArray[np.uint8]:
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    # What overflows is looked for afterwards, in one place for all types.
    with np.errstate(over="ignore"):
        encoded = quantize(values, GGMLQuantizationType[kind.name])
    return np.ascontiguousarray(encoded).view(np.uint8).reshape(len(values), -1)


def _can_encode(kind: GgufType) -> bool:
    if kind.name in PLAIN_FLOATS:
        return True
    try:
        _encoded(np.zeros((1, kind.block), dtype=np.float32), kind)
    except NotImplementedError:
        return False
    return True
