"""A file of ids as it lies there: numbers and what wrapped them, nothing repaired.

`tensors/id_lists.py` reads such files to use them, and repairs or refuses what is
odd; here what is odd is the point. What a file is, its first bytes say. Nothing
of more than 16 MB is loaded, packed or unpacked, and nothing is run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vocabtrim.core.errors import ArtifactError
from vocabtrim.core.manifest import METADATA_KEY, read_manifest
from vocabtrim.core.vocab_file import KIND
from vocabtrim.tensors.id_lists import MOST_BYTES
from vocabtrim.tensors.id_maps import is_map
from vocabtrim.tensors.id_vectors import MOST_REPEATS
from vocabtrim.tensors.torch_file import load_torch

_NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, eq=False)
class Listed:
    """What a file holds.

    Args:
        kind: What it was taken for.
        numbers: [n] int64 as stored; None where it holds something else.
        is_list: Whether they are a plain list, which every tool fills with ids;
            a bare vector may hold offsets as well.
        odd: What it holds in place of a list of whole numbers.
        maps: Named vectors, where it is a mapping.
        vocab_size: V, where it says so.
        tokenizer: Fingerprint, where it says so.
    """

    kind: str
    numbers: NDArray[np.int64] | None
    is_list: bool = False
    odd: str = ""
    maps: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    vocab_size: int | None = None
    tokenizer: str | None = None

    @property
    def may_be_offsets(self) -> bool:
        """Whether each number plus its position gives an id, none of them twice."""
        if self.numbers is None:
            return False
        ids = self.numbers + np.arange(self.numbers.size)
        return bool(ids.min() >= 0 and np.unique(ids).size == ids.size)

    @property
    def may_be_ids(self) -> bool:
        """Whether the numbers are ids, but for the repeats that FR-Spec's script makes."""
        if self.numbers is None:
            return False
        repeats = self.numbers.size - np.unique(self.numbers).size
        return bool(self.numbers.min() >= 0 and repeats <= MOST_REPEATS)

    @property
    def only_offsets(self) -> bool:
        """Whether the numbers cannot be ids and can be offsets."""
        return self.may_be_offsets and not self.may_be_ids


def read_listed(path: Path) -> Listed:
    """Read a file of ids.

    Raises:
        ArtifactError: It is damaged, too large, or holds no numbers.
        MissingExtra: It is a `.pt` file, and torch is not installed.
    """
    with path.open("rb") as stream:
        head = stream.read(16)
    if len(head) > 8 and head[8:9] == b"{" and b"\0" in head[:8]:
        return _safetensors(path)
    _small(path, path.stat().st_size)
    if head[:4] == b"PK\x03\x04":
        return _torch(path)
    if head[:1] == b"\x80" and len(head) > 2:
        # pickles: torch's own before 1.6, and others
        return _of_value(load_torch(path), ".pt")
    if head[:6] == b"\x93NUMPY":
        return _vector(_npy(path), ".npy vector")
    return _text(path)


def whole_numbers(array: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return a vector of integers as int64; None where it is something else."""
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        return None
    if array.max() > np.iinfo(np.int64).max:
        return None
    return array.astype(np.int64)


def _small(path: Path, nbytes: int) -> None:
    if nbytes > MOST_BYTES:
        raise ArtifactError(
            f"{path} holds {nbytes:,} bytes, and no list of ids is larger than {MOST_BYTES:,}; "
            "give the directory of a drafter"
        )


def _torch(path: Path) -> Listed:
    try:
        with zipfile.ZipFile(path) as archive:
            _small(path, sum(member.file_size for member in archive.infolist()))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as fault:
        raise ArtifactError(
            f"{path} is not a whole .pt file ({fault}); fetch it anew, or save it again "
            "with torch.save"
        ) from fault
    return _of_value(load_torch(path), ".pt")


def _npy(path: Path) -> NDArray[Any]:
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, OverflowError, SyntaxError) as fault:
        raise ArtifactError(f"{path} is not a readable .npy file ({fault})") from fault
    return np.array(mapped)


def _safetensors(path: Path) -> Listed:
    try:
        with safe_open(path, framework="numpy") as file:
            ours = METADATA_KEY in (file.metadata() or {})
            names = list(file.keys())
            chosen = [name for name in names if is_map(name)] or names[: len(names) == 1]
            for name in chosen:
                part = file.get_slice(name)
                _small(path, 8 * int(np.prod(part.get_shape(), dtype=object)))
            tensors = {name: file.get_tensor(name) for name in chosen}
    except (SafetensorError, OSError, TypeError) as fault:
        raise ArtifactError(f"{path} is not a readable safetensors file ({fault})") from fault
    if len(names) > len(chosen) or not chosen:
        raise ArtifactError(f"{path} holds weights; give the directory that it lies in")
    manifest = read_manifest(path) if ours else None
    if manifest is not None and manifest.kind != KIND:
        raise ArtifactError(f"{path} holds {manifest.kind}, which is neither drafter nor ids")
    if manifest is not None:
        numbers = whole_numbers(tensors[chosen[0]])
        size, tokenizer = manifest.vocab_size, manifest.tokenizer
        return Listed(KIND, numbers, is_list=True, vocab_size=size, tokenizer=tokenizer)
    if is_map(chosen[0]):
        return _mapping(tensors, "safetensors")
    return _vector(tensors[chosen[0]], f"safetensors {chosen[0]}")


def _text(path: Path) -> Listed:
    try:
        text = path.read_bytes().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = "\0"
    if text.startswith(("[", "{")):
        try:
            return _of_value(json.loads(text), "JSON")
        except (ValueError, RecursionError) as fault:
            raise ArtifactError(f"{path} is no valid JSON ({fault})") from fault
    words = re.split(r"[\s,]+", text)
    if not text or not all(_NUMBER.fullmatch(word) for word in words):
        raise ArtifactError(f"{path} is neither a drafter nor a list of ids of a known form")
    return Listed("text", np.array([int(word) for word in words], dtype=np.int64), is_list=True)


def _of_value(value: Any, kind: str) -> Listed:
    if isinstance(value, np.ndarray):
        return _vector(value, f"{kind} tensor")
    if isinstance(value, Mapping):
        return _mapping(value, kind)
    if not isinstance(value, list | tuple):
        raise ArtifactError(f"a {kind} file with a {type(value).__name__} is no list of ids")
    strange = [one for one in value if type(one) is not int or abs(one) >= 1 << 62]
    if strange or not value:
        what = f"{_brief(strange[0])} among its entries" if strange else "an empty list"
        return Listed(f"{kind} list", None, is_list=True, odd=what)
    return Listed(f"{kind} list", np.array(value, dtype=np.int64), is_list=True)


def _brief(value: Any) -> str:
    """Return a value in a few words, whatever hides in it."""
    if isinstance(value, str | float | bool) or value is None:
        return f"{str(value)[:40]!r}"
    return f"a {type(value).__name__}" if type(value) is not int else "a number beyond 2^62"


def _mapping(document: Mapping[Any, Any], kind: str) -> Listed:
    if "ids" in document:
        inner = _of_value(document["ids"], kind)
        size, tokenizer = document.get("vocab_size"), document.get("tokenizer")
        return Listed(
            f"{kind} with ids",
            inner.numbers,
            is_list=True,
            odd=inner.odd,
            vocab_size=size if type(size) is int else None,
            tokenizer=tokenizer if isinstance(tokenizer, str) else None,
        )
    maps = {str(name): np.asarray(document[name]) for name in document if is_map(str(name))}
    if not maps:
        keys = ", ".join(sorted(map(str, document))[:6]) or "nothing"
        raise ArtifactError(f"this {kind} file is no list of ids: it holds {keys}")
    by_name = {name.rpartition(".")[2]: array for name, array in maps.items()}
    mask = by_name.get("t2d")
    size = int(mask.size) if mask is not None and mask.ndim == 1 else None
    first = next((by_name[name] for name in by_name if name != "t2d"), None)
    numbers = None if first is None else whole_numbers(first)
    odd = "" if numbers is not None else "no vector of whole numbers"
    return Listed(f"{kind} mapping", numbers, odd=odd, maps=by_name, vocab_size=size)


def _vector(array: NDArray[Any], kind: str) -> Listed:
    numbers = whole_numbers(array)
    odd = "" if numbers is not None else f"shape {list(array.shape)} of {array.dtype}"
    return Listed(kind, numbers, odd=odd)
