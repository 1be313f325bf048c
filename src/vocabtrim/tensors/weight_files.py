"""Which files hold a checkpoint's weights, and what lies in each.

Names and precedence are those of transformers: `model.safetensors`, its index,
`pytorch_model.bin`, its index. What a file is, its first bytes say, not its name.
Only directories of tensors are read here, and nothing in them is believed: an
index may not lead outside, a header may be no larger than any model's, a tensor
may not reach beyond its file.

The library `safetensors` validates each of its files (truncated, overlapping,
out of bounds); it does not tell where a tensor lies, so the offsets are read from
the header here. Format: 8 bytes little-endian length n, n bytes of JSON, data
(huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.bin_file import bin_tensors, is_bin
from vocabtrim.tensors.tensor_info import TensorInfo

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
BIN_FILE = "pytorch_model.bin"
BIN_INDEX_FILE = "pytorch_model.bin.index.json"

MOST_HEADER_BYTES = 16 << 20
"""Of one file: a tensor takes about 150 bytes, and the largest models have some 100,000."""

MOST_JSON_BYTES = 24 << 20
"""Of an index, which names the tensors of all files."""


def weight_files(directory: Path) -> list[Path]:
    """Return the files that make up a checkpoint, by name.

    Raises:
        CheckpointError: There are none, or the index is damaged or names a file
            outside the directory.
    """
    for single in (WEIGHTS_FILE, BIN_FILE):
        if (directory / single).is_file():
            return [directory / single]
        index = _index_of(directory, single)
        if index.is_file():
            return [directory / name for name in sorted(set(_weight_map(index).values()))]
    raise CheckpointError(
        f"it has neither {WEIGHTS_FILE} nor {BIN_FILE}, whole or with an index", path=directory
    )


def stored_tensors(directory: Path) -> dict[str, TensorInfo]:
    """Return every tensor of a checkpoint, in the order of names.

    Raises:
        CheckpointError: As for `weight_files`, or a file is damaged, or two hold
            one tensor, or one that the index promises is not there.
        MissingExtra: The weights are `.bin` files, and torch is not installed.
    """
    files = weight_files(directory)
    found: dict[str, TensorInfo] = {}
    for file in files:
        for info in bin_tensors(file) if is_bin(file) else _safetensors(file):
            if info.name in found:
                raise CheckpointError(
                    f"{info.name} is also in {found[info.name].file.name}", path=file
                )
            found[info.name] = info
    if not any(files[0] == directory / single for single in (WEIGHTS_FILE, BIN_FILE)):
        _check_index(directory, found)
    return {name: found[name] for name in sorted(found)}


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        CheckpointError: There is none.
    """
    if not path.is_file():
        raise CheckpointError("there is no such file, so this is no checkpoint", path=path)
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise CheckpointError("it is larger than the JSON of any model", path=path)
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CheckpointError(f"it cannot be read ({fault.strerror})", path=path) from fault
    except (ValueError, RecursionError) as fault:
        raise CheckpointError(f"it is not JSON ({fault})", path=path) from fault
    if not isinstance(document, dict):
        raise CheckpointError(
            f"it must hold a JSON object, found {type(document).__name__}", path=path
        )
    return document


def _index_of(directory: Path, single: str) -> Path:
    return directory / {WEIGHTS_FILE: INDEX_FILE, BIN_FILE: BIN_INDEX_FILE}[single]


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("weight_map must map tensor names to files", path=index)
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not file:
            raise CheckpointError(
                f"the file of {tensor} must be a name, found {file!r}", path=index
            )
        # Judged by name, not by where it leads: hub caches link files to blobs elsewhere.
        parts = PurePosixPath(file)
        if parts.is_absolute() or ".." in parts.parts or "\\" in file or "\0" in file:
            raise CheckpointError(f"{file!r} lies outside the checkpoint's directory", path=index)
    return weight_map


def _check_index(directory: Path, found: dict[str, TensorInfo]) -> None:
    index = _index_of(directory, WEIGHTS_FILE)
    if not index.is_file():
        index = _index_of(directory, BIN_FILE)
    for name, file in _weight_map(index).items():
        if name not in found or found[name].file != directory / file:
            raise CheckpointError(
                f"{index.name} promises {name}, which is not in it", path=directory / file
            )


def _safetensors(file: Path) -> Iterator[TensorInfo]:
    """Yield every tensor of a safetensors file."""
    no = "it is not a whole safetensors file"
    if file.suffix == ".bin":
        no = "it is neither an archive of torch 1.6 or later nor a whole safetensors file"
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MOST_HEADER_BYTES:
                raise CheckpointError(
                    f"{no} (it would begin with {length:,} bytes of header, more than any "
                    "model has)",
                    path=file,
                )
            with safe_open(file, framework="numpy"):
                header = json.loads(stream.read(length))
    except (SafetensorError, OSError) as fault:
        raise CheckpointError(f"{no} ({fault})", path=file) from fault
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            yield TensorInfo(name, entry["dtype"], shape, file, 8 + length + begin, end - begin)
