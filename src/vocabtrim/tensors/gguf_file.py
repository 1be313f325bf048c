"""A Llama in GGUF to a checkpoint in the layout of transformers, in numpy.

Names are mapped, quantised rows are dequantised and rounded to bfloat16 (nearest,
ties to even: the precision in which such models are published), and config and
tokenizer are written from the file's metadata. Rows are converted a few
megabytes at a time.

llama.cpp stores the query and key projections with the two halves of every head
interleaved (`LlamaModel.permute` in its `conversion/llama.py`), so converting
back is one more choice of rows. What a plain Llama does not have (scaled rotary
frequencies, experts, biases) is refused by name, not dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import CHUNK_BYTES, CONFIG_FILE, WEIGHTS_FILE
from vocabtrim.tensors.gguf_tokenizer import write_tokenizer
from vocabtrim.tensors.writer import CheckpointWriter

MAGIC = b"GGUF"

CONVERSION = 1
"""Part of the names of cached conversions: raised when one writes something else."""

_OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


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


def convert_gguf(source: Path, directory: Path) -> None:
    """Write the Llama of a GGUF file as a checkpoint with its tokenizer.

    Args:
        source: A GGUF file of architecture `llama`.
        directory: An existing directory; gets config.json,
            generation_config.json, model.safetensors (bfloat16), tokenizer.json
            and tokenizer_config.json.

    Raises:
        CheckpointError: The file is damaged, or more than a plain Llama.
    """
    file = GgufFile.open(source)
    config = llama_config(file)
    writer = CheckpointWriter()
    for name, tensor in file.tensors.items():
        rows = _rows_in_order(name, tensor.data.shape[0], config)
        shape = tuple(int(size) for size in reversed(tensor.shape))
        nbytes = 2 * int(tensor.n_elements)
        chunks = partial(_bfloat16_chunks, file, tensor, rows)
        writer.add(_transformers_name(file, name), "BF16", shape, nbytes, chunks)
    writer.write(directory / WEIGHTS_FILE)
    _write_json(directory / CONFIG_FILE, config)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(directory / "generation_config.json", ids)
    write_tokenizer(file.metadata, directory, source=source)


def llama_config(file: GgufFile) -> dict[str, Any]:
    """Return the `config.json` of a GGUF file.

    Raises:
        CheckpointError: It is of another architecture, or scales its rotary
            embedding.
    """
    architecture = file.value("general.architecture")
    if architecture != "llama":
        raise CheckpointError(
            f"it holds a model of architecture {architecture}; only llama is converted",
            path=file.path,
        )
    scaling = file.metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise CheckpointError(f"its rotary scaling {scaling!r} is not converted", path=file.path)
    heads = int(file.value("llama.attention.head_count"))
    hidden = int(file.value("llama.embedding_length"))
    theta = float(file.metadata.get("llama.rope.freq_base", 10000.0))
    eos = int(file.value("tokenizer.ggml.eos_token_id"))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": int(file.metadata.get("tokenizer.ggml.bos_token_id", eos)),
        "dtype": "bfloat16",
        "eos_token_id": eos,
        "head_dim": int(file.metadata.get("llama.rope.dimension_count", hidden // heads)),
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": int(file.value("llama.feed_forward_length")),
        "max_position_embeddings": int(file.value("llama.context_length")),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": int(file.value("llama.block_count")),
        "num_key_value_heads": int(file.metadata.get("llama.attention.head_count_kv", heads)),
        "pad_token_id": int(file.metadata.get("tokenizer.ggml.padding_token_id", eos)),
        "rms_norm_eps": float(file.value("llama.attention.layer_norm_rms_epsilon")),
        # transformers 5 reads the nested form, everything older the flat one.
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "rope_theta": theta,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "use_cache": True,
        "vocab_size": _embedding_rows(file),
    }


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


def _embedding_rows(file: GgufFile) -> int:
    if "token_embd.weight" not in file.tensors:
        raise CheckpointError("it holds no token_embd.weight", path=file.path)
    return int(file.tensors["token_embd.weight"].shape[1])


def _transformers_name(file: GgufFile, name: str) -> str:
    if name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _IN_LAYER and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{_IN_LAYER[parts[2]]}.weight"
    raise CheckpointError(f"it holds {name}, which a plain Llama does not have", path=file.path)


def _rows_in_order(name: str, rows: int, config: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return which stored row comes first, second, … in the order of transformers."""
    order = np.arange(rows)
    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config["num_key_value_heads"],
    }.get(name.split(".")[-2])
    return order if heads is None else order.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def _bfloat16_chunks(file: GgufFile, tensor: Any, rows: NDArray[np.int64]) -> Iterator[memoryview]:
    from gguf.quants import dequantize

    step = max(CHUNK_BYTES * len(rows) // (4 * int(tensor.n_elements)), 1)
    for start in range(0, len(rows), step):
        try:
            values = dequantize(tensor.data[rows[start : start + step]], tensor.tensor_type)
        except NotImplementedError as fault:
            raise CheckpointError(
                f"{tensor.name} is {tensor.tensor_type.name}, which is not read", path=file.path
            ) from fault
        yield bfloat16_bits(values).reshape(-1).data


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
