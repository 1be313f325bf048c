"""A model in GGUF to a checkpoint in the layout of transformers, in numpy.

Names are mapped, quantised rows are dequantised and rounded to bfloat16 (nearest,
ties to even: the precision in which such models are published), and config and
tokenizer are written from the file's metadata. Rows are converted a few
megabytes at a time. What an architecture's tensors are called and how they are
stored is in `gguf_layouts.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import CHUNK_BYTES, CONFIG_FILE, WEIGHTS_FILE
from vocabtrim.tensors.gguf_file import GgufFile
from vocabtrim.tensors.gguf_layouts import layout_of
from vocabtrim.tensors.gguf_tokenizer import write_tokenizer
from vocabtrim.tensors.writer import CheckpointWriter

CONVERSION = 1
"""Part of the names of cached conversions: raised when one writes something else."""


def convert_gguf(source: Path, directory: Path) -> None:
    """Write the model of a GGUF file as a checkpoint with its tokenizer.

    Args:
        source: A GGUF file of an architecture in `gguf_layouts.LAYOUTS`.
        directory: An existing directory; gets config.json,
            generation_config.json, model.safetensors (bfloat16), tokenizer.json
            and tokenizer_config.json.

    Raises:
        CheckpointError: The file is damaged, or more than a plain model of its
            architecture.
    """
    file = GgufFile.open(source)
    layout = layout_of(file)
    config = layout.config(file)
    writer = CheckpointWriter()
    for name, tensor in file.tensors.items():
        rows = layout.rows(name, tensor.data.shape[0], config)
        shape = tuple(int(size) for size in reversed(tensor.shape))
        nbytes = 2 * int(tensor.n_elements)
        chunks = partial(_bfloat16_chunks, file, tensor, rows, np.float32(layout.added(name)))
        writer.add(layout.name(file, name), "BF16", shape, nbytes, chunks)
    writer.write(directory / WEIGHTS_FILE)
    _write_json(directory / CONFIG_FILE, config)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(directory / "generation_config.json", ids)
    write_tokenizer(
        file.metadata, directory, source=source, context=config["max_position_embeddings"]
    )


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to bfloat16, to nearest with ties to even.

    Returns:
        The bits, in the shape of `values`; NaN stays NaN.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    # The carry of the rounding could turn a NaN into an infinity.
    quiet = (bits >> np.uint32(16)).astype(np.uint16) | np.uint16(0x40)
    return np.where(np.isnan(values), quiet, rounded)


def _bfloat16_chunks(
    file: GgufFile, tensor: Any, rows: NDArray[np.int64], added: np.float32
) -> Iterator[memoryview]:
    from gguf.quants import dequantize

    step = max(CHUNK_BYTES * len(rows) // (4 * int(tensor.n_elements)), 1)
    for start in range(0, len(rows), step):
        try:
            values = dequantize(tensor.data[rows[start : start + step]], tensor.tensor_type)
        except NotImplementedError as fault:
            raise CheckpointError(
                f"{tensor.name} is {tensor.tensor_type.name}, which is not read; give a GGUF file "
                "of another type, or the model as safetensors",
                path=file.path,
            ) from fault
        yield bfloat16_bits(values - added).reshape(-1).data


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
