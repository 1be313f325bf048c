"""Which of the target's layers are fed to a drafter, and who reads where that is said.

The list has two meanings: at the top level it counts inputs of layers, inside
`eagle_config` outputs, one less. SGLang reads only the inner list, llama.cpp's
converter only the outer one, vLLM either as if it counted inputs; what is not read
is replaced by a default of low, middle and high. So a list that is right for one
engine is silently wrong in another, unless it is the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vocabtrim.pipeline.checks.base import (
    ALL,
    LLAMA_CPP,
    SGLANG,
    VLLM,
    Check,
    Said,
    Severity,
    lacks,
    refuses,
    said,
    slower,
    wrong,
)
from vocabtrim.pipeline.checks.gguf import FEATURES
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier, positive
from vocabtrim.tensors.eagle3_layout import FEATURE_KEY, FUSION, NESTED_CONFIG

OTHER_LAYERS = "feeds it its default layers, not those that it was trained on, silently"


def contradict(subject: Subject) -> Iterator[Said]:
    """Two lists of feature layers that do not mean the same."""
    top, inner = _layers(subject)
    if top is not None and inner is not None and top != [index + 1 for index in inner]:
        yield said(
            f"{FEATURE_KEY} is {top} at the top level, which counts inputs, and {inner} in "
            f"{NESTED_CONFIG}, which counts outputs: these are the inputs "
            f"{[index + 1 for index in inner]}",
            wrong(SGLANG, "feeds it the inner list"),
            wrong(VLLM, "feeds it the outer list"),
            wrong(LLAMA_CPP, "feeds it the outer list"),
        )


def unread(subject: Subject) -> Iterator[Said]:
    """A list of feature layers that an engine does not look at."""
    top, inner = _layers(subject)
    if subject.speculators or (top is None) == (inner is None):
        return
    layers = top or [index + 1 for index in inner or []]
    default = is_default(layers, subject.target)
    if top is not None and not default:
        yield said(
            f"its feature layers {top} stand at the top level only",
            wrong(SGLANG, f"{OTHER_LAYERS}; `export --to sglang` states them for it"),
        )
    if inner is not None:
        readers = [slower(VLLM, f"reads them as inputs: {inner}, each one layer early")]
        if not default:
            readers.append(wrong(LLAMA_CPP, OTHER_LAYERS))
        yield said(f"its feature layers {inner} stand in {NESTED_CONFIG} only", *readers)


def impossible(subject: Subject) -> Iterator[Said]:
    """Feature layers that the target has not, or another number of them than is fused."""
    for place, value in _stated(subject).items():
        if value not in (None, []) and _numbers(value) is None:
            yield said(
                f"{place} is {str(value)[:40]!r}, not a list of layers",
                refuses(ALL, "cannot make layers of it"),
            )
    _, nested = _stated(subject).values()
    if nested == []:
        yield said(
            f"the list of feature layers in {NESTED_CONFIG} is empty",
            refuses(SGLANG, "captures no layer at all; `export --to sglang` leaves the list out"),
        )
    top, inner = _layers(subject)
    layers = top if top is not None else None if inner is None else [i + 1 for i in inner]
    if layers is None:
        return
    depth = None if subject.target is None else subject.target.depth
    if min(layers) < 0 or (depth is not None and max(layers) > depth):
        yield said(
            f"it is fed hidden states {layers}, and the target has 0 to {depth}",
            refuses(ALL, "has no such layer"),
        )
    if sorted(set(layers)) != layers:
        yield said(
            f"its feature layers {layers} do not ascend",
            wrong(VLLM, "feeds them in ascending order, as it meets them"),
            wrong(SGLANG, "feeds them in ascending order, as it meets them"),
        )
    if len(layers) != FEATURES:
        yield said(
            f"it is fed {len(layers)} layers",
            lacks(LLAMA_CPP, f"feeds exactly {FEATURES}"),
        )
    hidden = _target_width(subject)
    fusion = subject.tensors.get(FUSION)
    reads = None if fusion is None or len(fusion.shape) != 2 else fusion.shape[1]
    if reads is not None and hidden and reads != len(layers) * hidden:
        yield said(
            f"{FUSION} reads {reads:,} values, and {len(layers)} layers of {hidden:,} are fed",
            refuses(ALL, "finds it of a wrong shape"),
        )


def is_default(layers: list[int], target: Verifier | None) -> bool:
    """Return whether feature layers are those that readers take where none are stated.

    Args:
        layers: Indices of `hidden_states`.
        target: Tells the number of its layers; without it, any number may fit.
    """
    depth = None if target is None else target.depth
    if depth is None:
        depth = layers[-1] + 3 if layers else 0
    return layers == [2, depth // 2, depth - 3]


def _layers(subject: Subject) -> tuple[list[int] | None, list[int] | None]:
    """Return the outer and the inner list, where they are lists of numbers."""
    top, inner = _stated(subject).values()
    return _numbers(top), _numbers(inner)


def _stated(subject: Subject) -> dict[str, Any]:
    """Return what stands where such lists stand, of an EAGLE-3 drafter: the outer, the inner."""
    config = subject.config if subject.eagle3 else {}
    nested = config.get(NESTED_CONFIG)
    return {
        FEATURE_KEY: config.get(FEATURE_KEY),
        f"{FEATURE_KEY} in {NESTED_CONFIG}": nested.get(FEATURE_KEY)
        if isinstance(nested, dict)
        else None,
    }


def _numbers(value: Any) -> list[int] | None:
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return value
    return None


def _target_width(subject: Subject) -> int | None:
    known = None if subject.target is None else subject.target.hidden_size
    return known or positive(subject.config.get("target_hidden_size"))


_WEIGHTS = frozenset({Form.CHECKPOINT})
_FAULT = Severity.FAULT

PLUGIN = (
    Check("layers-contradict", _FAULT, "two lists of layers", _WEIGHTS, contradict),
    Check("layers-unread", _FAULT, "where the list stands", _WEIGHTS, unread),
    Check("layers-impossible", _FAULT, "the layers themselves", _WEIGHTS, impossible),
)
