"""The map from rows to ids: there, whole, of the right kind, and right.

Every one of these faults loads in at least one engine, and only the acceptance
rate shows it. What each engine does was read in vLLM 0.32
(`models/llama_eagle3.py`, `weight_utils.py`), SGLang 0.5.23
(`models/llama_eagle3.py`, `eagle_worker_v2.py`) and llama.cpp 11434
(`conversion/llama.py`, `src/models/eagle3.cpp`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vocabtrim.pipeline.checks.base import (
    ALL,
    EAGLE,
    LLAMA_CPP,
    SGLANG,
    SPECFORGE,
    SPECULATORS,
    VLLM,
    Check,
    Effect,
    Said,
    Severity,
    odd,
    refuses,
    said,
    slower,
    wrong,
)
from vocabtrim.pipeline.checks.compared import rows_fit
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.head_source import D2T, T2D

FIRST_K = "drafts the first {:,} ids in place of its own, silently"
MANY = 64
"""Entries from which a pattern in a map is no accident."""

BESIDE = ("d2t.pt", "d2t.npy", "token_map.pt", "token_map.json", "vocab_mapping.pt")
"""Files in which training tools leave a map that belongs among the weights."""


def missing(subject: Subject) -> Iterator[Said]:
    """A head of fewer rows, and nothing that says for which ids."""
    if not subject.fused and not subject.kind:
        return
    other = misnamed_map(subject)
    if subject.rows is None or not subject.reduced or subject.map is not None or other:
        return
    what = f"its head has {subject.rows:,} of {subject.vocab_size:,} rows and there is no {D2T}"
    first = FIRST_K.format(subject.rows)
    if subject.form is Form.GGUF:
        yield said(what, refuses(LLAMA_CPP, "finds the head of a wrong shape"))
    else:
        lying = [name for name in BESIDE if (subject.path / name).is_file()]
        if lying:
            what += f" among its weights ({lying[0]} beside them is read by nobody)"
        yield said(
            what,
            wrong(VLLM, first),
            wrong(SGLANG, first),
            wrong(EAGLE, first),
            refuses(LLAMA_CPP, "converts it, and then finds the head of a wrong shape"),
        )


def misnamed(subject: Subject) -> Iterator[Said]:
    """A map under another name than `d2t`."""
    name = misnamed_map(subject)
    if name is not None and D2T not in subject.tensors:
        yield said(
            f"its map is called {name}, not {D2T}",
            refuses(VLLM, "knows no parameter of that name"),
            refuses(LLAMA_CPP, "has no place for it"),
            odd(SGLANG, "takes any name with d2t in it"),
        )


def not_whole(subject: Subject) -> Iterator[Said]:
    """A map that is no vector of whole numbers."""
    stored = subject.map
    if stored is not None and stored.numbers is None and subject.form is not Form.LIST:
        what = f"{D2T} is {stored.dtype} of shape {list(stored.shape)}, not a vector of integers"
        if subject.form is Form.GGUF or len(stored.shape) != 1 or 0 in stored.shape:
            yield said(what, refuses(ALL, "finds it of a wrong shape"))
            return
        rounded = stored.dtype in ("BF16", "F16")
        taken = "makes integers of it, of numbers that were rounded: other ids, silently"
        yield said(
            what,
            refuses(SGLANG, "cannot index with it"),
            *(wrong(name, taken) for name in (VLLM, LLAMA_CPP) if rounded),
            *(odd(name, "makes integers of it") for name in (VLLM, LLAMA_CPP) if not rounded),
        )


def wrong_length(subject: Subject) -> Iterator[Said]:
    """More or fewer entries than the head has rows."""
    stored = subject.map
    if stored is None or stored.numbers is None or subject.rows in (None, stored.numbers.size):
        return
    rows, entries = subject.rows or 0, stored.numbers.size
    beyond = (
        wrong(SGLANG, "drafts with the first rows only")
        if entries > rows
        else refuses(SGLANG, "indexes beyond the map once it drafts")
    )
    readers: tuple[Effect, ...] = (refuses(LLAMA_CPP, "finds the head of a wrong shape"),)
    if subject.form is Form.CHECKPOINT:
        readers = (refuses(VLLM, "asserts that their shapes agree"), beyond, *readers)
    yield said(f"{D2T} has {entries:,} entries for a head of {rows:,} rows", *readers)


def out_of_range(subject: Subject) -> Iterator[Said]:
    """An id that the target does not have."""
    ids, V = subject.ids, subject.vocab_size
    if ids is None or V is None or not ((ids < 0) | (ids >= V)).any():
        return
    bad = int(ids[(ids < 0) | (ids >= V)][0])
    what = f"{_name(subject)} leads to id {bad:,}, and there are {V:,}"
    if subject.form is Form.GGUF:
        yield said(what, refuses(LLAMA_CPP, "stops at the first draft"))
    elif subject.form is Form.LIST:
        yield said(what, refuses(SGLANG, "indexes beyond the target's head"))
    else:
        yield said(
            what,
            refuses(VLLM, "fails at the first draft with an index out of range"),
            refuses(SGLANG, "fails at the first draft with an index out of range"),
            refuses(LLAMA_CPP, "refuses it in its converter"),
        )


def duplicates(subject: Subject) -> Iterator[Said]:
    """An id that two rows stand for."""
    ids = subject.ids
    if ids is None or subject.form is Form.LIST or subject.holds_ids:
        return
    repeats = ids.size - np.unique(ids).size
    if not repeats:
        return
    what = f"{D2T} leads {repeats:,} rows to ids that another row has"
    if subject.form is Form.GGUF:
        yield said(what, wrong(LLAMA_CPP, "lets one of their logits win, which one is not said"))
    else:
        yield said(
            what,
            wrong(VLLM, "lets one of their logits win, which one is not said"),
            slower(SGLANG, "reads rows for nothing"),
            refuses(LLAMA_CPP, "refuses it in its converter"),
        )


def identity(subject: Subject) -> Iterator[Said]:
    """A map of zeros, as one that was never filled."""
    stored = subject.map
    if stored is None or stored.numbers is None or not subject.reduced:
        return
    ids = stored.ids
    if ids is None or ids.size < 2 or not np.array_equal(ids, np.arange(ids.size)):
        return
    what = f"{_name(subject)} leads to the first {ids.size:,} ids in their order"
    meant = subject.mask is not None or subject.form is Form.LIST or subject.ours
    if meant or rows_fit(subject):
        yield said(what, odd(ALL, "drafts just these, which is right if they were chosen"))
    else:
        reader = ALL if subject.form is Form.CHECKPOINT else LLAMA_CPP
        yield said(f"{what}, as a map does that was never filled", wrong(reader, _UNFILLED))


def absolute(subject: Subject) -> Iterator[Said]:
    """Ids where offsets belong."""
    if subject.form is Form.CHECKPOINT and subject.holds_ids:
        yield said(
            f"{D2T} holds ids, and a {D2T} of safetensors holds id minus position",
            wrong(VLLM, "adds the position to each and drafts other ids"),
            wrong(SGLANG, "adds the position to each and drafts other ids"),
            wrong(LLAMA_CPP, "adds the position to each when it converts, or finds them too large"),
        )


def offsets(subject: Subject) -> Iterator[Said]:
    """Offsets where ids belong, in GGUF."""
    stored = subject.map
    if subject.form is not Form.GGUF or stored is None or stored.numbers is None:
        return
    numbers = stored.numbers
    ids = numbers + np.arange(numbers.size)
    repeats = numbers.size - np.unique(numbers).size
    fits = (
        np.unique(ids).size == ids.size and ids.min() >= 0 and ids.max() < (subject.vocab_size or 0)
    )
    if fits and (repeats or numbers.min() < 0):
        yield said(
            f"{D2T} holds offsets, and a {D2T} of GGUF holds ids",
            wrong(LLAMA_CPP, "takes them for ids and drafts other ones"),
        )


def not_needed(subject: Subject) -> Iterator[Said]:
    """A `d2t` beside a head of all rows."""
    if subject.form is Form.CHECKPOINT and D2T in subject.tensors and not subject.reduced:
        yield said(
            f"there is a {D2T}, and it drafts over all {subject.vocab_size} ids",
            refuses(VLLM, "knows no such parameter where K = V; `export --to vllm` leaves it out"),
        )


def unsorted(subject: Subject) -> Iterator[Said]:
    """Ids that do not ascend."""
    ids = subject.ids
    if ids is None or subject.form is Form.LIST or ids.size < 2 or (np.diff(ids) >= 0).all():
        return
    if subject.holds_ids or np.unique(ids).size < ids.size:
        return
    what = f"the ids of {D2T} do not ascend (the first is {ids[0]:,}, the second {ids[1]:,})"
    trained = "asks for ascending ids: `trim` and `convert` put rows and ids in order"
    if subject.mask is not None:
        what += f", and the {T2D} beside it does"
        trained = f"takes rows by {T2D}, in ascending order: other ones, if they follow {D2T}"
    yield said(
        what,
        slower(SPECULATORS, trained),
        slower(SPECFORGE, trained),
        odd(VLLM, "does not mind, if the rows are in that order"),
        odd(SGLANG, "does not mind, if the rows are in that order"),
        odd(LLAMA_CPP, "does not mind, if the rows are in that order"),
    )


def ambiguous(subject: Subject) -> Iterator[Said]:
    """A `d2t` that could hold ids as well, with nothing that decides."""
    stored, V = subject.map, subject.vocab_size
    if subject.form is not Form.CHECKPOINT or stored is None or stored.numbers is None:
        return
    numbers = stored.numbers
    if subject.mask is not None or V is None or numbers.size < MANY or subject.holds_ids:
        return
    could_be = (np.diff(numbers) > 0).all() and numbers[0] >= 0 and numbers[-1] < V
    if could_be and not rows_fit(subject):
        yield said(
            f"no two neighbours among the ids of {D2T}: it may hold ids in place of offsets",
            slower(ALL, "drafts wrongly if so; --target compares its rows with the target's"),
        )


def misnamed_map(subject: Subject) -> str | None:
    """Return the name of a tensor that looks like a map and is called otherwise."""
    for name, info in subject.tensors.items():
        last = name.removesuffix(".weight").rpartition(".")[2]
        if name != D2T and len(info.shape) == 1 and last in (D2T, "draft_id_to_target_id"):
            return name
    return None


_UNFILLED = "drafts the first ids, whatever its rows are for; --target compares the rows"


def _name(subject: Subject) -> str:
    return subject.map.name if subject.map is not None else D2T


_BOTH = frozenset({Form.CHECKPOINT, Form.GGUF})
_ALL = frozenset(Form)
_WEIGHTS = frozenset({Form.CHECKPOINT})
_GGUF = frozenset({Form.GGUF})
_FAULT, _LOSS = Severity.FAULT, Severity.LOSS

PLUGIN = (
    Check("map-missing", _FAULT, "a map beside a head of K rows", _BOTH, missing),
    Check("map-misnamed", _FAULT, "the name of the map", _BOTH, misnamed),
    Check("map-not-whole", _FAULT, "the map's type and shape", _BOTH, not_whole),
    Check("map-length", _FAULT, "entries of the map against rows", _BOTH, wrong_length),
    Check("map-out-of-range", _FAULT, "the map's ids against V", _ALL, out_of_range),
    Check("map-duplicates", _FAULT, "ids that two rows have", _BOTH, duplicates),
    Check("map-first-ids", _FAULT, "a map of zeros", _ALL, identity),
    Check("map-of-ids", _FAULT, "ids where offsets belong", _WEIGHTS, absolute),
    Check("map-of-offsets", _FAULT, "offsets where ids belong", _GGUF, offsets),
    Check("map-either", _LOSS, "a map that could be both", _WEIGHTS, ambiguous),
    Check("map-not-needed", _FAULT, "a map beside all rows", _WEIGHTS, not_needed),
    Check("map-unsorted", _LOSS, "the order of ids", _BOTH, unsorted),
)
