"""GGUF files of real shapes with random weights, for measuring latency alone.

What a step takes does not depend on what the weights are, so a model need not be
fetched to be timed. Quantised blocks are random bytes under scales that keep
activations where trained ones are: each matrix has the spread of its fan-in.
Embedding, head and the drafter's head are drawn independently, so that drafts are
right by chance only: an acceptance above that means something else is measured.

The tokenizer is a list of V words without merges that matter: prompts are ids.
Nothing here is a checkpoint that means anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

BLOCKS = {"Q8_0": (34, 73.9), "Q4_0": (18, 4.61)}
"""Type to bytes of a block of 32 values, and the spread of its random integers."""

VALUES = 32
EPSILON = 1e-5


@dataclass(frozen=True)
class Shape:
    """The shape of a target, and of an EAGLE-3 drafter for it.

    Args:
        name: Of the model that has it.
        architecture: As llama.cpp calls it: "llama" or "qwen3".
        hidden: H.
        layers: Decoder layers.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        head_size: Values of a head.
        ffn: Width of the MLP.
        vocab_size: V.
    """

    name: str
    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocab_size: int


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("Llama-3.2-1B", "llama", 2048, 16, 32, 8, 64, 8192, 128_256),
        Shape("Qwen3-0.6B", "qwen3", 1024, 28, 16, 8, 128, 3072, 151_936),
        Shape("Llama-3.2-3B", "llama", 3072, 28, 24, 8, 128, 8192, 128_256),
    )
}

Matrix = tuple[str, int, int]
"""Name, rows (what comes out), columns (what goes in)."""


def target_matrices(shape: Shape) -> list[Matrix]:
    """Return the matrices of a target, its head apart from its embedding."""
    found = [("token_embd", shape.vocab_size, shape.hidden)]
    for layer in range(shape.layers):
        found += _layer(shape, layer, shape.hidden)
    return [*found, ("output", shape.vocab_size, shape.hidden)]


def drafter_matrices(shape: Shape, rows: int) -> list[Matrix]:
    """Return the matrices of an EAGLE-3 drafter whose head has so many rows."""
    fused = ("fc", shape.hidden, 3 * shape.hidden)
    return [fused, *_layer(shape, 0, 2 * shape.hidden), ("output", rows, shape.hidden)]


def write_target(path: Path, shape: Shape, kind: str, seed: int) -> None:
    """Write a target whose matrices are all of one type."""
    writer = _writer(path, shape.architecture, shape, shape.layers)
    norms = {"output_norm": shape.hidden}
    for layer in range(shape.layers):
        norms |= {f"blk.{layer}.{name}": shape.hidden for name in ("attn_norm", "ffn_norm")}
        if shape.architecture == "qwen3":
            heads = ("attn_q_norm", "attn_k_norm")
            norms |= {f"blk.{layer}.{name}": shape.head_size for name in heads}
    _write(writer, target_matrices(shape), norms, kind, seed)


def write_drafter(path: Path, shape: Shape, kind: str, rows: int, seed: int) -> None:
    """Write an EAGLE-3 drafter with a head of `rows` rows, and a map where they are fewer."""
    writer = _writer(path, "eagle3", shape, 1)
    middle = shape.layers // 2
    writer.add_array("eagle3.target_layers", [2, middle, shape.layers - 3])
    writer.add_uint32("eagle3.target_hidden_size", shape.hidden)
    names = ("blk.0.attn_norm", "blk.0.attn_norm_2", "blk.0.ffn_norm", "output_norm")
    norms = dict.fromkeys(names, shape.hidden)
    ids = np.linspace(0, shape.vocab_size - 1, rows).astype(np.int64)
    reduced = None if rows == shape.vocab_size else ids
    _write(writer, drafter_matrices(shape, rows), norms, kind, seed, d2t=reduced)


def blocks(generator: np.random.Generator, rows: int, columns: int, kind: str) -> NDArray[np.uint8]:
    """Return a random matrix as the bytes of its blocks, [rows, bytes a row].

    Its values have mean 0 and the spread 1 / sqrt(columns).
    """
    size, spread = BLOCKS[kind]
    count = columns // VALUES
    data = np.frombuffer(generator.bytes(rows * count * size), dtype=np.uint8).copy()
    data = data.reshape(rows, count, size)
    scale = 1.0 / (spread * columns**0.5)
    # integers of four bits have a mean of -0.5: signs at random take it away
    signs = generator.choice(np.array([-scale, scale], dtype=np.float16), size=(rows, count))
    data[:, :, :2] = signs.view(np.uint8).reshape(rows, count, 2)
    return data.reshape(rows, count * size)


def _layer(shape: Shape, layer: int, width: int) -> list[Matrix]:
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    parts = [
        ("attn_q", queries, width),
        ("attn_k", keys, width),
        ("attn_v", keys, width),
        ("attn_output", shape.hidden, queries),
        ("ffn_gate", shape.ffn, shape.hidden),
        ("ffn_up", shape.ffn, shape.hidden),
        ("ffn_down", shape.hidden, shape.ffn),
    ]
    return [(f"blk.{layer}.{name}", rows, columns) for name, rows, columns in parts]


def _writer(path: Path, architecture: str, shape: Shape, layers: int) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"random weights, shape of {shape.name}")
    writer.add_block_count(layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"w{number}" for number in range(shape.vocab_size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * shape.vocab_size)
    writer.add_token_merges(["w 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bool(gguf.Keys.Tokenizer.ADD_BOS, val=False)
    return writer


def _write(
    writer: gguf.GGUFWriter,
    matrices: list[Matrix],
    norms: dict[str, int],
    kind: str,
    seed: int,
    *,
    d2t: NDArray[np.int64] | None = None,
) -> None:
    """Describe all tensors, then draw and write one after the other."""
    number, size = gguf.GGMLQuantizationType[kind], BLOCKS[kind][0]
    for name, rows, columns in matrices:
        width = columns // VALUES * size
        writer.add_tensor_info(
            f"{name}.weight", (rows, width), np.dtype(np.uint8), rows * width, number
        )
    for name, length in norms.items():
        writer.add_tensor_info(f"{name}.weight", (length,), np.dtype(np.float32), 4 * length)
    if d2t is not None:
        writer.add_tensor_info("d2t", d2t.shape, d2t.dtype, d2t.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in _drawn(matrices, norms, kind, seed, d2t):
        writer.write_tensor_data(tensor)
    writer.close()


def _drawn(
    matrices: list[Matrix],
    norms: dict[str, int],
    kind: str,
    seed: int,
    d2t: NDArray[np.int64] | None,
) -> Iterator[NDArray[Any]]:
    generator = np.random.default_rng(seed)
    for _, rows, columns in matrices:
        yield blocks(generator, rows, columns, kind)
    for length in norms.values():
        yield np.ones(length, dtype=np.float32)
    if d2t is not None:
        yield d2t
