"""The mask of kept ids, `t2d`, against the map.

Engines do not look at it; those that train and convert drafters do, and take rows
by it in ascending order of ids. Where it contradicts the map, one of the two is
wrong, and which one the rows follow is not said anywhere. Sources: speculators 0.9
`model.py`, SpecForge 0.2 `export/to_sglang.py` and `core/compact_teacher.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vocabtrim.pipeline.checks.base import (
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
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.head_source import D2T, T2D


def mask_differs(subject: Subject) -> Iterator[Said]:
    """A `t2d` that marks other ids than `d2t` leads to."""
    ids, mask = subject.ids, subject.mask
    if ids is None or mask is None or subject.holds_ids:
        return
    if np.array_equal(np.unique(ids), np.flatnonzero(mask)):
        return
    marked = int(mask.sum())
    yield said(
        f"{T2D} marks {marked:,} ids and {D2T} leads to {np.unique(ids).size:,}, "
        "and they are not the same",
        refuses(SPECULATORS, "compares their number and stops, or trains other rows"),
        wrong(SPECFORGE, "exports and trains by the one, and drafts by the other"),
        slower(VLLM, f"drafts by {D2T}: right only if that is the right one"),
        slower(SGLANG, f"drafts by {D2T}: right only if that is the right one"),
    )


def mask_shape(subject: Subject) -> Iterator[Said]:
    """A `t2d` that is no mask over V ids."""
    info = subject.tensors.get(T2D)
    if info is None:
        return
    if subject.mask is None:
        yield said(
            f"{T2D} is {info.dtype} of shape {list(info.shape)}, not [V] bool",
            refuses(SPECULATORS, "asks for a mask of [V]"),
            odd(VLLM, "does not look at it"),
        )
    elif subject.stated_vocab_size not in (None, subject.mask.size):
        yield said(
            f"{T2D} has {subject.mask.size:,} entries for {subject.stated_vocab_size:,} ids",
            refuses(SPECULATORS, "asks for a mask of [V]"),
            odd(VLLM, "does not look at it"),
        )


def mask_missing(subject: Subject) -> Iterator[Said]:
    """No `t2d` beside a `d2t`."""
    if not subject.fused or subject.map is None or not subject.reduced or T2D in subject.tensors:
        return
    readers: tuple[Effect, ...] = (odd(SPECFORGE, "asks for one when it exports or trains it"),)
    if subject.speculators:
        readers = (refuses(SPECULATORS, "loads a reduced drafter with both only"), *readers)
    yield said(f"there is a {D2T} and no {T2D}", *readers)


_ALL = frozenset(Form)
_WEIGHTS = frozenset({Form.CHECKPOINT})
_FAULT = Severity.FAULT

PLUGIN = (
    Check("mask-differs", _FAULT, "t2d against d2t", _ALL, mask_differs),
    Check("mask-shape", _FAULT, "the type and length of t2d", _WEIGHTS, mask_shape),
    Check("mask-missing", _FAULT, "a t2d beside d2t", _WEIGHTS, mask_missing),
)
