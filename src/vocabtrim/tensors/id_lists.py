"""Everybody's lists of kept ids, recognised by content.

A JSON list, `{"ids": […]}`, text, `.npy`, raw int32 or int64, `.pt` lists and
tensors (FR-Spec's `freq_K.pt` among them), the maps of safetensors, GGUF and
whole drafters, our own draft vocabularies: all become absolute ids in the order
of the file. What kind a file is, its bytes say, never its name; what a bare
vector holds, `id_vectors.py` proves or refuses; what a `d2t` holds, `id_maps.py`.

Formats as written by thunlp/FR-Spec `fr/fr.py`, SafeAILab/EAGLE
`traineagle3/cnets.py`, vllm-project/speculators `train/vocab_mapping.py`, NVIDIA
ModelOpt `torch/speculative/utils.py`, TensorRT-Edge-LLM `vocab_map.safetensors`.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vocabtrim.core.errors import ArtifactError, VocabError
from vocabtrim.core.manifest import METADATA_KEY, read_manifest
from vocabtrim.core.vocab import MOST_IDS, DraftVocab
from vocabtrim.core.vocab_file import KIND, read_vocab
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_file import MAGIC as GGUF_MAGIC
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.id_maps import is_map, possible, read_maps, read_mask
from vocabtrim.tensors.id_vectors import Reading, read_list, read_vector
from vocabtrim.tensors.torch_file import load_torch

MOST_BYTES = 16 << 20
"""More than any list of ids in text or raw bytes: the largest vocabularies have 300,000."""


@dataclass(frozen=True, eq=False)
class IdList:
    """Ids found in a file.

    Args:
        ids: [K] int64 absolute ids, unique, in the order of the file.
        kind: What the file was taken for.
        notes: What was repaired, or is odd, one sentence each.
        vocab_size: V, where the file says it.
        tokenizer: Fingerprint of the tokenizer, where the file says it.
    """

    ids: NDArray[np.int64]
    kind: str
    notes: tuple[str, ...] = ()
    vocab_size: int | None = None
    tokenizer: str | None = None

    @property
    def order(self) -> Literal["ascending", "as listed"]:
        """Whether the file holds the ids in ascending order; if not, mostly by frequency."""
        return "ascending" if (np.diff(self.ids) > 0).all() else "as listed"

    def vocab(self, vocab_size: int, tokenizer: str | None = None) -> DraftVocab:
        """Return the ids as a draft vocabulary, ascending.

        Raises:
            VocabError: An id is not below `vocab_size`.
        """
        return DraftVocab.from_ids(self.ids, vocab_size, tokenizer)


@dataclass(frozen=True)
class _Ask:
    """What the caller knows besides the file."""

    vocab_size: int | None
    reading: Reading | None

    def vector(self, array: NDArray[Any], kind: str) -> IdList:
        """Read a vector that nothing names."""
        if array.dtype == np.bool_:
            return IdList(read_mask(array), f"{kind}, a mask", (), int(array.size))
        found = read_vector(array, self.vocab_size, reading=self.reading)
        return IdList(found.ids, f"{kind} of {found.reading}", found.notes)

    def listed(self, values: Any, kind: str) -> IdList:
        """Read a list: ids, unless the caller says otherwise."""
        numbers = values if isinstance(values, np.ndarray) else _integers(values)
        found = read_list(numbers, self.vocab_size, reading=self.reading)
        return IdList(found.ids, kind, found.notes)

    def maps(self, tensors: Mapping[str, NDArray[Any]], kind: str) -> IdList:
        """Read tensors that have the names of maps."""
        found = read_maps(tensors, self.vocab_size, reading=self.reading)
        return IdList(found.ids, f"{kind} {found.what}", found.notes, found.vocab_size)


def read_ids(
    path: Path, vocab_size: int | None = None, *, reading: Reading | None = None
) -> IdList:
    """Read a list of ids, whoever wrote it.

    Args:
        path: A file, or the directory of a drafter with a reduced head.
        vocab_size: V of the tokenizer. Ids at or above it are an error, and it
            rules out wrong readings of files that do not say what they hold.
        reading: Whether the numbers are ids or offsets, where that is known.

    Raises:
        VocabError: The file holds no ids, impossible ones, or numbers that can
            be ids as well as offsets.
        ArtifactError: The file is missing or damaged.
        CheckpointError: So is a drafter or a GGUF file.
        MissingExtra: It is a `.pt` file, and torch is not installed.
    """
    ask = _Ask(vocab_size, reading)
    try:
        found = _drafter(path, ask) if path.is_dir() else _file(path, ask)
    except VocabError as fault:
        raise VocabError(f"{path}: {fault}") from fault
    if vocab_size is not None and found.ids.max() >= vocab_size:
        raise VocabError(
            f"{path}: id {found.ids.max()} is not below the {vocab_size} ids of the tokenizer"
        )
    return found


def _drafter(path: Path, ask: _Ask) -> IdList:
    checkpoint = Checkpoint.open(path)
    maps = {name: checkpoint.array(name) for name in checkpoint.tensors if is_map(name)}
    return ask.maps(maps, "drafter")


def _file(path: Path, ask: _Ask) -> IdList:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    with path.open("rb") as stream:
        head = stream.read(16)
    for form, read in _BINARY.items():
        if form.match(head):
            return read(path, ask)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise VocabError(f"it is of no kind known here, and at {size:,} bytes no list of ids")
    return _plain(path.read_bytes(), ask)


def _safetensors(path: Path, ask: _Ask) -> IdList:
    try:
        with safe_open(path, framework="numpy") as file:
            ours = METADATA_KEY in (file.metadata() or {})
            names = list(file.keys())
            chosen = [name for name in names if is_map(name)] or names[: len(names) == 1]
            for name in chosen:
                _possible(math.prod(file.get_slice(name).get_shape()))
            tensors = {name: file.get_tensor(name) for name in chosen}
    except (SafetensorError, OSError, TypeError) as fault:
        raise ArtifactError(f"{path} is not a readable safetensors file ({fault})") from fault
    kind = read_manifest(path).kind if ours else None
    if kind == KIND:
        vocab, _ = read_vocab(path)
        return IdList(vocab.ids, KIND, (), vocab.vocab_size, vocab.tokenizer)
    if kind is not None and not tensors:
        raise VocabError(f"it holds {kind}, not a list of ids")
    if len(tensors) == 1 and not is_map(chosen[0]):
        return ask.vector(tensors[chosen[0]], f"safetensors {chosen[0]}")
    return ask.maps(tensors, "safetensors")


def _gguf(path: Path, ask: _Ask) -> IdList:
    model = open_gguf(path)
    if "d2t" not in model.tensors:
        raise VocabError("this GGUF file has no d2t: its head is not reduced")
    _possible(model.tensors["d2t"].n_params)
    size = model.header.count("tokenizer.ggml.tokens")
    # llama.cpp adds the positions when it converts (conversion/llama.py), so these are ids
    found = read_list(model.weights.array("d2t"), size, reading=ask.reading)
    return IdList(found.ids, f"GGUF d2t ({_HELD[found.reading]})", found.notes, size)


def _npy(path: Path, ask: _Ask) -> IdList:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, OverflowError, SyntaxError) as fault:
        raise ArtifactError(f"{path} is not a readable .npy file ({fault})") from fault
    _possible(array.size)
    return ask.vector(np.array(array), ".npy array")


def _torch(path: Path, ask: _Ask) -> IdList:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".npy") for name in archive.namelist()):
                raise VocabError("an .npz archive holds several arrays; save the ids as .npy")
    loaded = load_torch(path)
    if isinstance(loaded, np.ndarray):
        return ask.vector(loaded, ".pt tensor")
    if isinstance(loaded, dict):
        return _mapping(loaded, ask, ".pt")
    return ask.listed(loaded, ".pt list")


def _pickle(path: Path, ask: _Ask) -> IdList:
    raise ArtifactError(
        f"{path} is a Python pickle, and loading one runs what it holds; "
        "write the ids as a JSON list"
    )


def _plain(data: bytes, ask: _Ask) -> IdList:
    if not data:
        raise VocabError("the file is empty")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = ""
    if "\0" in text:
        # the highest byte of a raw id is 0, and no text has one
        text = ""
    if text.startswith(("[", "{")):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as fault:
            raise VocabError(f"it is no valid JSON ({fault})") from fault
        whole = isinstance(document, dict)
        return _mapping(document, ask, "JSON") if whole else ask.listed(document, "JSON list")
    if text:
        return ask.listed(_numbers(text), "text")
    return _raw(data, ask)


def _mapping(document: Mapping[Any, Any], ask: _Ask, kind: str) -> IdList:
    if "ids" in document:
        size, tokenizer = document.get("vocab_size"), document.get("tokenizer")
        found = ask.listed(document["ids"], f"{kind} with ids")
        return IdList(
            found.ids,
            found.kind,
            found.notes,
            size if type(size) is int else None,
            tokenizer if isinstance(tokenizer, str) else None,
        )
    maps = {str(name): np.asarray(document[name]) for name in document if is_map(str(name))}
    if maps:
        return ask.maps(maps, kind)
    if document and all(str(key).isdecimal() for key in document):
        raise VocabError(
            f"it maps {len(document):,} ids to numbers: these are frequencies, not a list of ids"
        )
    keys = ", ".join(sorted(map(str, document))[:6]) or "nothing"
    raise VocabError(f"it has neither `ids` nor `d2t`; it has {keys}")


def _integers(values: Any) -> NDArray[np.int64]:
    if not isinstance(values, list | tuple):
        raise VocabError(f"ids are a list or a vector, found {type(values).__name__}")
    for place, one in enumerate(values):
        if type(one) is not int or abs(one) >= 1 << 62:
            raise VocabError(f"entry {place} of the list is {_brief(one)}, and no id")
    return np.array(values, dtype=np.int64)


def _brief(value: Any) -> str:
    """Return a value in a few words, whatever hides in it."""
    if isinstance(value, str | float | bool) or value is None:
        return f"{str(value)[:40]!r}"
    return f"a {type(value).__name__}" if type(value) is not int else "a number beyond 2^62"


def _possible(entries: int) -> None:
    """Refuse what has more entries than any tokenizer has tokens, before it is loaded."""
    if entries > MOST_IDS:
        raise VocabError(f"it has {entries:,} entries, and no list of ids is as long")


def _numbers(text: str) -> list[int]:
    numbers = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in re.split(r"[\s,]+", line.strip()):
            if word and re.fullmatch(r"-?[0-9]{1,18}", word) is None:
                raise VocabError(f"line {number} has {word[:40]!r} where an id should be")
            numbers += [int(word)] if word else []
    return numbers


def _raw(data: bytes, ask: _Ask) -> IdList:
    """Read bytes without a header, where one width alone gives possible numbers."""
    if ask.vocab_size is None:
        raise VocabError(
            "it is of no kind known here; raw ids can be told only where the number of ids is known"
        )
    fits = []
    for dtype in (np.dtype("<i4"), np.dtype("<i8")):
        if len(data) % dtype.itemsize == 0:
            numbers = np.frombuffer(data, dtype=dtype)
            found = possible(numbers, ask.vocab_size, ask.reading or "ids")
            # a repeat is a repair elsewhere; here it is evidence against the width
            if found is not None and found.ids.size == numbers.size:
                fits.append(numbers)
    if len(fits) != 1:
        why = "could be int32 or int64" if fits else "are neither int32 nor int64 ids"
        raise VocabError(
            f"it is of no kind known here, and its {len(data):,} bytes {why} below "
            f"{ask.vocab_size}; write the ids as a JSON list"
        )
    return ask.vector(fits[0], f"raw {fits[0].dtype.name}")


_HELD: dict[Reading, str] = {"ids": "absolute ids", "offsets": "offsets"}

_BINARY: dict[re.Pattern[bytes], Callable[[Path, _Ask], IdList]] = {
    re.compile(form, re.DOTALL): read
    for form, read in {
        re.escape(GGUF_MAGIC): _gguf,
        rb"\x93NUMPY": _npy,
        rb"PK\x03\x04": _torch,
        # pickles, torch's own of old and others; in raw ids the third byte is small
        rb"\x80\x02[\x10-\xff]": _torch,
        rb"\x80[\x03-\x05][\x10-\xff]": _pickle,
        # length, then JSON; in raw ids one of the next four bytes is 0
        rb".{8}\{[^\0]{4}": _safetensors,
    }.items()
}
