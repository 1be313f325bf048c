"""What llama.cpp asks of a GGUF drafter and of no other form.

The map is I64 and holds ids; EAGLE-3 is fed exactly three layers; a block drafter's
Markov table has as many rows as its head; and an architecture that has no word for
a map is refused because of the tensor too many (`src/llama-model-loader.cpp`,
`src/models/eagle3.cpp`, `dflash.cpp`).
"""

from __future__ import annotations

from collections.abc import Iterator

from vocabtrim.core.errors import CheckpointError
from vocabtrim.pipeline.checks.base import (
    LLAMA_CPP,
    Check,
    Said,
    Severity,
    lacks,
    refuses,
    said,
    slower,
)
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import architecture_value
from vocabtrim.tensors.gguf_drafter import KINDS
from vocabtrim.tensors.head_source import D2T

LAYERS_KEY = "eagle3.target_layers"
FEATURES = 3


def map_type(subject: Subject) -> Iterator[Said]:
    """The type of the map."""
    info = subject.tensors.get(D2T)
    if info is not None and info.dtype != "I64":
        yield said(
            f"{D2T} is {info.dtype}",
            refuses(LLAMA_CPP, "asserts that it is I64"),
        )


def no_reader(subject: Subject) -> Iterator[Said]:
    """A map in an architecture that has none."""
    name = "" if subject.gguf is None else subject.gguf.architecture
    if D2T in subject.tensors and name not in KINDS:
        yield said(
            f"there is a {D2T} in a model of the architecture {name}",
            refuses(LLAMA_CPP, "finds a tensor more than that architecture has"),
        )


def needs_patch(subject: Subject) -> Iterator[Said]:
    """A reduced head that the stock loader refuses."""
    if subject.kind is not None and subject.kind.needs is not None and subject.reduced:
        yield said(
            "its head is reduced",
            lacks(LLAMA_CPP, f"refuses it as it is: it needs {subject.kind.needs}"),
        )


def layers(subject: Subject) -> Iterator[Said]:
    """The number of feature layers."""
    if subject.gguf is None or subject.gguf.architecture != "eagle3":
        return
    try:
        found = [int(one) for one in subject.gguf.header.numbers(LAYERS_KEY)]
    except CheckpointError:
        found = []
    if found and len(found) != FEATURES:
        yield said(
            f"{LAYERS_KEY} is {found}", refuses(LLAMA_CPP, f"feeds exactly {FEATURES} layers")
        )
    elif not found:
        yield said(f"{LAYERS_KEY} is missing", refuses(LLAMA_CPP, "asks for it"))
    depth = None if subject.target is None else subject.target.depth
    if found and (min(found) < 0 or (depth is not None and max(found) > depth)):
        yield said(
            f"it is fed hidden states {found}, and the target has 0 to {depth}",
            refuses(LLAMA_CPP, "has no such layer"),
        )


def followers(subject: Subject) -> Iterator[Said]:
    """Tensors whose rows run over the draft vocabulary besides the head's."""
    for name in subject.kind.followers if subject.kind is not None else ():
        info = subject.tensors.get(name)
        if info is not None and subject.rows not in (None, *info.shape[:1]):
            yield said(
                f"{name} has the shape {list(info.shape)}, and its head {subject.rows:,} rows",
                refuses(LLAMA_CPP, "finds it of a wrong shape"),
            )


def stated_size(subject: Subject) -> Iterator[Said]:
    """What the metadata says of V, against the tokenizer."""
    if subject.gguf is None:
        return
    key = f"{subject.gguf.architecture}.vocab_size"
    value, V = architecture_value(subject.gguf, "vocab_size"), subject.stated_vocab_size
    if type(value) is int and V is not None and value != V:
        yield said(
            f"{key} is {value:,}, and its tokenizer has {V:,} ids",
            slower(LLAMA_CPP, "sizes logits by the tokenizer"),
        )


_GGUF = frozenset({Form.GGUF})
_FAULT = Severity.FAULT

PLUGIN = (
    Check("gguf-map-type", _FAULT, "the type of d2t", _GGUF, map_type),
    Check("gguf-no-reader", _FAULT, "a d2t in an ordinary model", _GGUF, no_reader),
    Check("gguf-patch", Severity.NOTE, "heads that need a patch", _GGUF, needs_patch),
    Check("gguf-layers", _FAULT, "feature layers", _GGUF, layers),
    Check("gguf-followers", _FAULT, "rows beside the head's", _GGUF, followers),
    Check("gguf-vocab-size", Severity.LOSS, "V in the metadata", _GGUF, stated_size),
)
