"""Checkpoints of a few kilobytes for tests: real configs, random weights, no torch.

Each builder writes a directory and returns it. `edit` makes variants and faults
out of one; `raw_tensors` reads a directory with the library's own parser, so that
tests do not check our reader against itself.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

from vocabtrim.families import eagle3, independent

V, H = 96, 32
"""Vocabulary and width of everything here, unless told otherwise."""

RawTensor = tuple[str, tuple[int, ...], bytes]
"""Type, shape and bytes of a tensor, as the file has them."""

WATCH_MEMORY = """
import threading
from pathlib import Path

def _anonymous_kib():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])

def _watch():
    while not _done.wait(0.002):
        _peak.append(max(_peak.pop(), _anonymous_kib()))

def peak_kib():
    _done.set()
    _watcher.join()
    return _peak[0]

_peak, _done = [0], threading.Event()
_watcher = threading.Thread(target=_watch)
_watcher.start()
"""
"""Begins a script that ends by asking `peak_kib()`: most memory not backed by a file."""


def tiny_target(
    directory: Path,
    *,
    tied: bool = True,
    vocab_size: int = V,
    hidden: int = H,
    layers: int = 4,
    seed: int = 1,
) -> Path:
    """Write a Llama target with layers enough for EAGLE-3's features."""
    independent.write_tiny_llama(
        directory, vocab_size=vocab_size, hidden=hidden, seed=seed, layers=layers, tied=tied
    )
    return directory


def tiny_lm(
    directory: Path,
    *,
    tied: bool = True,
    vocab_size: int = V,
    hidden: int = H,
    layers: int = 2,
    seed: int = 2,
) -> Path:
    """Write an independent drafter."""
    return tiny_target(
        directory, tied=tied, vocab_size=vocab_size, hidden=hidden, layers=layers, seed=seed
    )


def tiny_eagle3(
    directory: Path,
    *,
    own_head: bool = False,
    own_embedding: bool = False,
    ids: Iterable[int] | None = None,
    vocab_size: int = V,
    hidden: int = H,
    seed: int = 3,
) -> Path:
    """Write an EAGLE-3 drafter; `ids` gives it a reduced head of its own."""
    eagle3.PLUGIN.tiny_checkpoint(directory, vocab_size=vocab_size, hidden=hidden, seed=seed)
    generator = np.random.default_rng(seed + 1)
    added: dict[str, NDArray[Any]] = {}
    config: dict[str, Any] = {}
    if own_embedding:
        added["embed_tokens.weight"] = generator.normal(0, 0.2, (vocab_size, hidden))
    if own_head or ids is not None:
        kept = np.arange(vocab_size) if ids is None else np.array(list(ids), dtype=np.int64)
        added["lm_head.weight"] = generator.normal(0, 0.2, (kept.size, hidden))
        if ids is not None:
            added["d2t"] = kept - np.arange(kept.size)
            added["t2d"] = np.isin(np.arange(vocab_size), kept)
        config = {"draft_vocab_size": int(kept.size)}
    floats = {k: a.astype(np.float32) if a.dtype == np.float64 else a for k, a in added.items()}
    return edit(directory, add=floats, config=config)


def tiny_speculators(
    directory: Path, *, ids: Iterable[int] | None = None, vocab_size: int = V, seed: int = 3
) -> Path:
    """Write an EAGLE-3 drafter as speculators 0.9 saves one, with layers of its own choice."""
    tiny_eagle3(
        directory, ids=ids, own_head=True, own_embedding=True, vocab_size=vocab_size, seed=seed
    )
    tensors = raw_tensors(directory)
    write_raw(directory, {k.replace("midlayer.", "layers.0."): raw for k, raw in tensors.items()})
    path = directory / "config.json"
    flat = json.loads(path.read_text())
    aside = {"architectures", "draft_vocab_size", "eagle_aux_hidden_state_layer_ids"}
    aside |= {"target_hidden_size"}
    config = {
        "architectures": ["Eagle3DraftModel"],
        "auto_map": {"": "config.Eagle3SpeculatorConfig"},
        "draft_vocab_size": flat["draft_vocab_size"],
        "dtype": "float32",
        "eagle_aux_hidden_state_layer_ids": [1, 2, 4],
        "embed_requires_grad": False,
        "fc_norm": False,
        "norm_before_fc": False,
        "norm_before_residual": False,
        "norm_output": False,
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [
                {
                    "accept_tolerance": 0.0,
                    "proposal_type": "greedy",
                    "speculative_tokens": 5,
                    "verifier_accept_k": 1,
                }
            ],
            "verifier": {"architectures": ["LlamaForCausalLM"], "name_or_path": "org/target"},
        },
        "speculators_model_type": "eagle3",
        "speculators_version": "0.9.0",
        "target_hidden_size": None,
        "tie_word_embeddings": False,
        "transformer_layer_config": {k: v for k, v in flat.items() if k not in aside},
    }
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return directory


def raw_tensors(directory: Path) -> dict[str, RawTensor]:
    """Return every tensor of a checkpoint as bytes, read by the safetensors library."""
    found: dict[str, RawTensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        for name, entry in deserialize(file.read_bytes()):
            found[name] = (str(entry["dtype"]), tuple(entry["shape"]), bytes(entry["data"]))
    return found


def numbers(raw: RawTensor) -> NDArray[Any]:
    """Return a raw tensor as an array; bfloat16 as the uint16 of its bits."""
    dtype, shape, data = raw
    kinds = {"F32": "<f4", "BF16": "<u2", "I64": "<i8", "BOOL": "?", "I32": "<i4", "F16": "<f2"}
    return np.frombuffer(data, dtype=kinds[dtype]).reshape(shape)


def write_raw(directory: Path, tensors: Mapping[str, RawTensor], *, shards: int = 1) -> None:
    """Replace a checkpoint's weights, as one file or as shards with an index."""
    for file in directory.glob("*.safetensors*"):
        file.unlink()
    if shards == 1:
        _serialize(directory / "model.safetensors", tensors)
        return
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        part = dict(sorted(tensors.items())[shard::shards])
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        _serialize(directory / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def edit(
    directory: Path,
    *,
    add: Mapping[str, NDArray[Any]] | None = None,
    drop: Iterable[str] = (),
    config: Mapping[str, Any] | None = None,
    forget: Iterable[str] = (),
    shards: int = 1,
) -> Path:
    """Change a checkpoint in place: tensors to add or drop, config keys to set or forget."""
    tensors = raw_tensors(directory)
    names = {"float32": "F32", "int64": "I64", "bool": "BOOL", "int32": "I32", "uint8": "U8"} | {
        "float16": "F16"
    }
    for name, array in (add or {}).items():
        tensors[name] = (
            names[array.dtype.name],
            array.shape,
            np.ascontiguousarray(array).tobytes(),
        )
    for name in drop:
        del tensors[name]
    write_raw(directory, tensors, shards=shards)
    path = directory / "config.json"
    document = json.loads(path.read_text()) | dict(config or {})
    path.write_text(json.dumps({k: v for k, v in document.items() if k not in set(forget)}))
    return directory


def as_bin(directory: Path, *, shards: int = 1) -> Path:
    """Replace a checkpoint's safetensors by `pytorch_model.bin`, or by shards of it."""
    import torch

    kinds = {"F32": "float32", "BF16": "bfloat16", "I64": "int64", "BOOL": "bool", "F16": "float16"}
    tensors = {
        name: torch.frombuffer(bytearray(data), dtype=getattr(torch, kinds[dtype])).reshape(shape)
        for name, (dtype, shape, data) in sorted(raw_tensors(directory).items())
    }
    for file in directory.glob("*.safetensors*"):
        file.unlink()
    if shards == 1:
        torch.save(tensors, directory / "pytorch_model.bin")
        return directory
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        part = dict(list(tensors.items())[shard::shards])
        file = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        torch.save(part, directory / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return directory


def in_bfloat16(directory: Path) -> Path:
    """Cut every float32 tensor of a checkpoint down to bfloat16."""
    tensors = {
        name: (
            ("BF16", shape, np.frombuffer(data, "<u2")[1::2].tobytes())
            if dtype == "F32"
            else (dtype, shape, data)
        )
        for name, (dtype, shape, data) in raw_tensors(directory).items()
    }
    write_raw(directory, tensors)
    return edit(directory, config={"dtype": "bfloat16"})


def write_sparse(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Write a safetensors file of holes: much to read, nothing on disk.

    Args:
        path: The file.
        tensors: Name to type and shape; all values are zero.
    """
    itemsizes = {"I64": 8, "F32": 4, "BF16": 2, "U8": 1}
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        nbytes = itemsizes[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + nbytes]}
        end += nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)


def _serialize(path: Path, tensors: Mapping[str, RawTensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [end, end + len(data)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
