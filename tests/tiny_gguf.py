"""GGUF files of a few kilobytes for tests, written by llama.cpp's own package.

`tiny_gguf` writes an EAGLE-3 drafter, `tiny_gguf_target` a target; `read_gguf`
reads any file with that package's reader, so that tests do not check our reader
against itself. Widths are 256, a block of the largest quantisation types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray

V, H = 96, 256

FLOATS = ("F32", "F16", "BF16")
ENCODABLE = (*FLOATS, "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")
"""Types that the package can write."""


@dataclass(frozen=True)
class Read:
    """A file as the package reads it: metadata, and type with rows of bytes by tensor."""

    metadata: Mapping[str, Any]
    types: Mapping[str, str]
    data: Mapping[str, NDArray[np.uint8]]


def read_gguf(path: Path) -> Read:
    """Read a file whole, with the package's own reader."""
    reader = gguf.GGUFReader(path)
    own = {key: field.contents() for key, field in reader.fields.items()}
    return Read(
        {key: value for key, value in own.items() if not key.startswith("GGUF.")},
        {tensor.name: tensor.tensor_type.name for tensor in reader.tensors},
        {
            tensor.name: np.array(tensor.data).view(np.uint8).reshape(tensor.data.shape[0], -1)
            for tensor in reader.tensors
        },
    )


def tiny_gguf(
    path: Path,
    *,
    head: str | None = None,
    ids: Iterable[int] | None = None,
    architecture: str = "eagle3",
    vocab_size: int = V,
    add: Mapping[str, NDArray[Any]] | None = None,
    drop: Iterable[str] = (),
    more: Callable[[gguf.GGUFWriter], object] = lambda _: None,
    split: int = 0,
    seed: int = 5,
) -> Path:
    """Write a drafter.

    Args:
        path: The file; with `split`, the stem of the parts' names.
        head: Type of a head of its own; None leaves it to the target.
        ids: What a reduced head of its own stands for, in any order.
        architecture: As llama.cpp calls it.
        vocab_size: Tokens of its tokenizer.
        add: Further tensors; those of float32 are written as they are.
        drop: Tensors that it does not get.
        more: Adds metadata.
        split: Tensors in a part; 0 writes one file.
        seed: Of the weights.
    """
    generator = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {
        "fc.weight": generator.normal(0, 0.2, (H, 3 * H)).astype(np.float32),
        "blk.0.attn_q.weight": generator.normal(0, 0.2, (64, 2 * H)).astype(np.float32),
        "output_norm.weight": np.ones(H, dtype=np.float32),
        **(add or {}),
    }
    writer = gguf.GGUFWriter(
        path, architecture, split_max_tensors=split, use_temp_file=False, dry_run=False
    )
    writer.add_embedding_length(H)
    _add_tokens(writer, vocab_size)
    more(writer)
    for name, array in tensors.items():
        if name not in set(drop):
            writer.add_tensor(name, array)
    if head is not None:
        rows = vocab_size if ids is None else len(list(ids))
        values = generator.normal(0, 0.2, (rows, H)).astype(np.float32)
        _add_matrix(writer, "output.weight", values, head)
    if ids is not None:
        writer.add_tensor("d2t", np.array(list(ids), dtype=np.int64))
    return _close(writer, path, split)


def tiny_gguf_target(
    path: Path,
    *,
    kind: str = "Q8_0",
    tied: bool = True,
    vocab_size: int = V,
    hidden: int = H,
    split: int = 0,
    seed: int = 6,
) -> Path:
    """Write what a trim reads of a target: its tokenizer and its two matrices."""
    generator = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    writer.add_embedding_length(hidden)
    _add_tokens(writer, vocab_size)
    names = ["token_embd.weight", *([] if tied else ["output.weight"])]
    writer.add_tensor("output_norm.weight", np.ones(hidden, dtype=np.float32))
    for name in names:
        values = generator.normal(0, 0.2, (vocab_size, hidden)).astype(np.float32)
        _add_matrix(writer, name, values, kind)
    return _close(writer, path, split)


def _add_matrix(writer: gguf.GGUFWriter, name: str, values: NDArray[np.float32], kind: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    writer.add_tensor(name, quantize(values, number), raw_dtype=number)


def _add_tokens(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{i}" for i in range(vocab_size)])
    writer.add_token_types([1] * vocab_size)
    writer.add_array("tokenizer.ggml.merges", ["a b"])


def _close(writer: gguf.GGUFWriter, path: Path, split: int) -> Path:
    writer.write_header_to_file(path=path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
    if not split:
        return path
    return sorted(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))[0]
