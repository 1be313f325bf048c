"""A list of ids as SGLang loads it: `--speculative-token-map`.

SGLang takes what torch saved, makes integers of it and takes those rows of the
target's head (`speculative/spec_utils.py`, `eagle_worker_v2.py`): it compares the
list with nothing. Offsets, which other tools keep in files that look the same,
pick other rows in silence.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vocabtrim.pipeline.checks.base import (
    SGLANG,
    Check,
    Said,
    Severity,
    lacks,
    odd,
    refuses,
    said,
    slower,
    wrong,
)
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.head_source import HEAD_WEIGHT


def unusable(subject: Subject) -> Iterator[Said]:
    """A file that holds something else than whole numbers."""
    if subject.listed is not None and subject.listed.odd:
        yield said(
            f"the {subject.listed.kind} holds {subject.listed.odd}",
            refuses(SGLANG, "cannot make ids of it"),
        )


def other_form(subject: Subject) -> Iterator[Said]:
    """Ids in a file that torch did not write, or inside a mapping."""
    if subject.listed is None:
        return
    kind = subject.listed.kind
    if kind.startswith(".pt") and not subject.listed.maps and "with ids" not in kind:
        return
    yield said(
        f"it is a {kind}" if kind[0] != "." else f"it is a file of the kind {kind}",
        lacks(SGLANG, "loads a list or a vector that torch saved; `export --to ids-pt`"),
    )


def offsets(subject: Subject) -> Iterator[Said]:
    """Numbers that cannot be ids, and can be offsets."""
    listed = subject.listed
    if listed is None or listed.numbers is None or listed.maps:
        return
    if listed.only_offsets:
        what = f"the {listed.kind} holds offsets (id minus position), not ids"
        effect = "takes them for ids and drafts from other rows of the target's head, silently"
        # a list is what SGLang takes; a bare vector of offsets is ModelOpt's own, and right there
        yield said(what, wrong(SGLANG, effect) if listed.is_list else lacks(SGLANG, effect))
        return
    V, reach = subject.vocab_size, int((listed.numbers + np.arange(listed.numbers.size)).max())
    if not listed.is_list and listed.may_be_offsets and V is not None and reach < V:
        yield said(
            f"the {listed.kind} can hold ids as well as offsets",
            odd(SGLANG, "takes them for ids"),
        )


def repeated(subject: Subject) -> Iterator[Said]:
    """Ids that stand more than once."""
    listed = subject.listed
    if listed is None or listed.numbers is None or listed.maps or listed.only_offsets:
        return
    repeats = listed.numbers.size - np.unique(listed.numbers).size
    if repeats:
        yield said(
            f"{repeats:,} of {listed.numbers.size:,} entries repeat another "
            "(FR-Spec's script appends BOS and EOS to lists that have them)",
            slower(SGLANG, "reads their rows twice"),
        )


def unsorted(subject: Subject) -> Iterator[Said]:
    """Ids by frequency."""
    listed = subject.listed
    if listed is None or listed.numbers is None or listed.maps or listed.numbers.size < 2:
        return
    if (np.diff(listed.numbers) < 0).any() and not listed.only_offsets:
        yield said(
            "its ids do not ascend, as in lists by frequency",
            odd(SGLANG, "takes any order"),
        )


def packed_target(subject: Subject) -> Iterator[Said]:
    """A target whose head cannot be sliced so."""
    target = subject.target
    if target is None or subject.listed is None:
        return
    stem = HEAD_WEIGHT.removesuffix("weight")
    extra = [
        name
        for name in target.weights.tensors
        if name.startswith(stem) and name not in (HEAD_WEIGHT, f"{stem}bias")
    ]
    if extra:
        yield said(
            f"the target's head is quantised ({extra[0]})",
            wrong(SGLANG, "slices its weight and leaves the scales as they are, or finds none"),
        )
    classes = target.config.get("architectures")
    for name in classes if isinstance(classes, list) else []:
        if str(name) in _NOT_SLICED:
            yield said(f"the target's class is {name}", _NOT_SLICED[str(name)])
    if target.predicts is not None and target.kind.startswith("qwen3_5") and target.tied:
        yield said(
            "the target is a Qwen3.5 with prediction layers and a tied head",
            refuses(SGLANG, "keeps the whole head and indexes beyond the list"),
        )


_SEVERAL = slower(SGLANG, "drafts with several layers of the target and never looks at the list")
_NOT_SLICED = {
    "MiMoV2ForCausalLM": _SEVERAL,
    "MiMoV2FlashForCausalLM": _SEVERAL,
    "GigaChat35ForCausalLM": _SEVERAL,
    "Step3p5ForCausalLM": _SEVERAL,
    "Step3p7ForConditionalGeneration": _SEVERAL,
    "IQuestQ1ForCausalLM": refuses(SGLANG, "refuses a list beside it"),
}
"""Targets whose prediction layers SGLang runs elsewhere (`arg_groups/model_overrides`)."""

_LIST = frozenset({Form.LIST})
_FAULT, _LOSS, _NOTE = Severity.FAULT, Severity.LOSS, Severity.NOTE

PLUGIN = (
    Check("list-unusable", _FAULT, "what the file holds", _LIST, unusable),
    Check("list-form", _NOTE, "what wrote the file", _LIST, other_form),
    Check("list-of-offsets", _FAULT, "offsets where ids belong", _LIST, offsets),
    Check("list-repeats", _LOSS, "ids that repeat", _LIST, repeated),
    Check("list-order", _NOTE, "the order of ids", _LIST, unsorted),
    Check("list-target-head", _FAULT, "the head that is sliced", _LIST, packed_target),
)
