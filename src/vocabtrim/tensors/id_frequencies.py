"""Frequencies that other tools left behind, as counts.

A `{id: count}` mapping (speculators' `token_freq.pt`, or the same as JSON) is
counts without document frequencies. A prepared sample of EAGLE and SpecForge
(`input_ids` with its `loss_mask`) is a document. Their vocabulary caches
(`d2t` and `t2d`) know only which ids were kept: each counts once, which orders a
fill (`--base`) and nothing else.

What a file does not say is not made up: documents that are not known are one
document, so that no estimate of sufficiency is drawn from them, and a note says it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.tensors.id_lists import read_ids
from vocabtrim.tensors.torch_file import load_torch

NO_DOCUMENTS = (
    "in how many documents an id occurs is not known: the whole counts as one document, "
    "and whether it is enough cannot be told"
)
NO_COUNTS = (
    "it says which ids were kept and not how often they occur, so that each counts once; "
    "as --base it orders what rows are filled with"
)
_SAMPLE_IDS, _SAMPLE_MASK = "input_ids", "loss_mask"


@dataclass(frozen=True)
class Frequencies:
    """Counts that were read from another tool's file.

    Args:
        counts: As our own; `tokenizer` is what the caller says it is.
        kind: What the file was taken for.
        notes: What it does not say, one sentence each.
    """

    counts: TokenCounts
    kind: str
    notes: tuple[str, ...]


def read_frequencies(
    path: Path, vocab_size: int, tokenizer: str, special: SpecialIds | None = None
) -> Frequencies:
    """Read another tool's frequencies as counts.

    Args:
        path: A `.pt` or JSON file.
        vocab_size: V of the tokenizer that made them.
        tokenizer: Its fingerprint; the file cannot be checked against it.
        special: The ids that it sets apart; none by default.

    Raises:
        CalibrationError: The file holds no frequencies, or impossible ones.
        VocabError: It is a map of kept ids, and a wrong one.
        ArtifactError: It is missing or damaged.
        MissingExtra: It is a `.pt` file, and torch is not installed.
    """
    document = _document(path)
    notes: tuple[str, ...]
    if "d2t" in document or "t2d" in document:
        ids = read_ids(path, vocab_size).ids
        times = np.zeros(vocab_size, dtype=np.int64)
        times[ids] = 1
        kind, notes = "map of kept ids", (NO_COUNTS, NO_DOCUMENTS)
    elif _SAMPLE_IDS in document:
        times = _of_sample(document, vocab_size, path)
        kind, notes = "prepared sample", ()
    else:
        times = _of_mapping(document, vocab_size, path)
        kind, notes = "frequencies", (NO_DOCUMENTS,)
    if not times.any():
        raise CalibrationError("no id occurs in it", path=path)
    documents = (times > 0).astype(np.int64)
    counts = TokenCounts(times, documents, 1, tokenizer, special or SpecialIds())
    return Frequencies(counts, kind, notes)


def _document(path: Path) -> Mapping[Any, Any]:
    if not path.is_file():
        raise CalibrationError("no such file", path=path)
    with path.open("rb") as stream:
        head = stream.read(4)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        loaded = load_torch(path)
    else:
        try:
            loaded = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as fault:
            raise CalibrationError(
                f"frequencies are a .pt file or JSON, and this is neither ({fault})", path=path
            ) from fault
    if not isinstance(loaded, dict) or not loaded:
        raise CalibrationError(
            f"frequencies are a mapping of ids to counts, found {type(loaded).__name__}", path=path
        )
    return loaded


def _of_mapping(document: Mapping[Any, Any], vocab_size: int, path: Path) -> NDArray[np.int64]:
    times = np.zeros(vocab_size, dtype=np.int64)
    for key, count in document.items():
        token_id = int(key) if type(key) is str and key.isdecimal() else key
        if type(token_id) is not int or type(count) is not int:
            raise CalibrationError(
                f"frequencies map ids to whole numbers, found {key!r}: {str(count)[:40]}", path=path
            )
        if not 0 <= token_id < vocab_size or not 0 <= count < 1 << 62:
            raise CalibrationError(
                f"id {token_id} with count {count} is impossible: "
                f"ids run from 0 to {vocab_size - 1}, and counts from 0",
                path=path,
            )
        times[token_id] += count
    return times


def _of_sample(document: Mapping[Any, Any], vocab_size: int, path: Path) -> NDArray[np.int64]:
    ids = np.asarray(document[_SAMPLE_IDS]).reshape(-1)
    mask = np.asarray(document.get(_SAMPLE_MASK, [])).reshape(-1)
    if mask.size != ids.size:
        raise CalibrationError(
            f"{_SAMPLE_MASK} must say of each of the {ids.size} {_SAMPLE_IDS} whether it counts, "
            f"and is {mask.size} long",
            path=path,
        )
    counted = ids[mask.astype(np.bool_)]
    if counted.dtype.kind not in "iu" or (
        counted.size and not 0 <= counted.min() <= counted.max() < vocab_size
    ):
        raise CalibrationError(
            f"its {_SAMPLE_IDS} are not ids below the {vocab_size} of the tokenizer", path=path
        )
    return np.bincount(counted, minlength=vocab_size).astype(np.int64)
