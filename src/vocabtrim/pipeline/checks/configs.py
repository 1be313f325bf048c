"""What the config says: sizes, classes, and which of the target's layers are fed.

The list of feature layers has two meanings: at the top level it counts inputs of
layers, inside `eagle_config` outputs, one less. SGLang reads only the inner list,
llama.cpp's converter only the outer one, vLLM either as if it counted inputs; what
is not read is replaced by a default of low, middle and high. So a list that is
right for one engine is silently wrong in another, unless it is the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vocabtrim.pipeline.checks.base import (
    ALL,
    LLAMA_CPP,
    SGLANG,
    SPECULATORS,
    VLLM,
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
from vocabtrim.tensors.checkpoint import CONFIG_FILE, Checkpoint
from vocabtrim.tensors.eagle3_layout import FEATURE_KEY, FUSION, NESTED_CONFIG
from vocabtrim.tensors.speculators_config import LAYER_CONFIG

SGLANG_CLASS = "LlamaForCausalLMEagle3"
OTHER_LAYERS = "feeds it its default layers, not those that it was trained on, silently"


def draft_size(subject: Subject) -> Iterator[Said]:
    """`draft_vocab_size`, where a head is reduced."""
    if not subject.eagle3 or "draft_vocab_size" in subject.config:
        return
    if subject.reduced:
        rows = subject.rows or subject.draft_size
        yield said(
            f"draft_vocab_size is not stated, and its head has {rows:,} rows",
            refuses(VLLM, "takes it for V and asserts that the head has as many rows"),
            refuses(SGLANG, "asks for it (AttributeError)"),
            refuses(LLAMA_CPP, "does not take it for an EAGLE-3 drafter"),
        )
    else:
        yield said(
            "draft_vocab_size is not stated",
            lacks(SGLANG, "asks for it, if only for null (AttributeError)"),
            lacks(LLAMA_CPP, "does not take it for an EAGLE-3 drafter"),
            odd(VLLM, "takes it for V"),
        )


def vocab_size(subject: Subject) -> Iterator[Said]:
    """`vocab_size`, which stays V whatever K is."""
    stated, V = subject.stated_vocab_size, _ids_there_are(subject)
    if stated is None or V is None or stated == V:
        return
    hint = ", which is its K" if stated == subject.draft_size else ""
    yield said(
        f"vocab_size is {stated:,}{hint}, and there are {V:,} ids",
        refuses(VLLM, "builds logits and embedding of that size; they must be the target's"),
        refuses(SGLANG, "builds an embedding of that size; it must be the target's"),
        refuses(LLAMA_CPP, "holds it against the tokenizer"),
    )


def layers_contradict(subject: Subject) -> Iterator[Said]:
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


def layers_unread(subject: Subject) -> Iterator[Said]:
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


def layers_impossible(subject: Subject) -> Iterator[Said]:
    """Feature layers that the target has not, or another number of them than is fused."""
    top, inner = _layers(subject)
    layers = top if top is not None else None if inner is None else [i + 1 for i in inner]
    if layers is None:
        return
    depth = _depth(subject.target)
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
    hidden = _target_width(subject)
    fusion = subject.tensors.get(FUSION)
    if fusion is not None and hidden and fusion.shape[-1] != len(layers) * hidden:
        yield said(
            f"{FUSION} reads {fusion.shape[-1]:,} values, and {len(layers)} layers of "
            f"{hidden:,} are fed",
            refuses(ALL, "finds it of a wrong shape"),
        )


def architecture(subject: Subject) -> Iterator[Said]:
    """The class name of a flat EAGLE-3 drafter."""
    if not subject.eagle3 or subject.speculators:
        return
    names = subject.config.get("architectures")
    first = str(names[0]) if isinstance(names, list) and names else None
    if first is None:
        yield said(
            "its config names no architecture",
            refuses(VLLM, "needs one"),
            refuses(SGLANG, "needs one"),
        )
    elif first != SGLANG_CLASS:
        yield said(
            f"its class is {first}",
            lacks(SGLANG, f"knows {SGLANG_CLASS} only; `export --to sglang` names it so"),
            odd(VLLM, f"takes it for Eagle3{first.removeprefix('Eagle3')}"),
        )


def nested_layout(subject: Subject) -> Iterator[Said]:
    """What speculators' layout leaves open, and each reader fills otherwise."""
    if not subject.speculators:
        return
    if "norm_before_residual" not in subject.config and subject.eagle3:
        yield said(
            "norm_before_residual is not stated",
            wrong(VLLM, "takes it for true, and speculators for false"),
        )
    if not isinstance(subject.config.get(LAYER_CONFIG), dict):
        yield said(
            f"{LAYER_CONFIG} is missing",
            refuses(VLLM, "takes the decoder's config from it"),
            refuses(SPECULATORS, "takes the decoder's config from it"),
        )
    methods = subject.config.get("speculators_config")
    verifier = methods.get("verifier") if isinstance(methods, dict) else None
    named = verifier.get("name_or_path") if isinstance(verifier, dict) else None
    if not named:
        yield said(
            "it names no target",
            slower(VLLM, "cannot serve it by itself; name both on the command line"),
            slower(SPECULATORS, "cannot load the target's embedding and head for it"),
        )


def target_width(subject: Subject) -> Iterator[Said]:
    """Hidden sizes of drafter and target."""
    if not subject.fused or subject.target is None:
        return
    hidden = subject.target.text_config.get("hidden_size")
    stated = subject.config.get("target_hidden_size")
    if type(hidden) is int and stated not in (None, hidden):
        yield said(
            f"target_hidden_size is {stated}, and the target's is {hidden}",
            refuses(ALL, "fuses features of another width: it was trained for another target"),
        )


def taken_for_eagle3(subject: Subject) -> Iterator[Said]:
    """A one-layer LM that llama.cpp's converter takes for an EAGLE-3 drafter."""
    config = subject.config
    llama = config.get("model_type") == "llama" and config.get("num_hidden_layers") == 1
    if llama and not subject.fused and "draft_vocab_size" in config:
        yield said(
            "it is an LM of one layer with a draft_vocab_size",
            refuses(LLAMA_CPP, "takes it for an EAGLE-3 drafter when it converts"),
        )


def target_vocabulary(subject: Subject) -> Iterator[Said]:
    """V of drafter and target, where only the padding may differ."""
    stated, V = subject.stated_vocab_size, subject.target_vocab_size
    if stated is None or V is None or stated == V or subject.form is Form.LIST:
        return
    yield said(
        f"it has {stated:,} ids and the target {V:,}, padded otherwise or of another tokenizer",
        slower(VLLM, "drafts greedily only: sampling compares rows of logits of one length"),
    )


def is_default(layers: list[int], target: Checkpoint | None) -> bool:
    """Return whether feature layers are those that readers take where none are stated.

    Args:
        layers: Indices of `hidden_states`.
        target: Tells the number of its layers; without it, any number may fit.
    """
    depth = _depth(target)
    if depth is None:
        depth = layers[-1] + 3 if layers else 0
    return layers == [2, depth // 2, depth - 3]


def _ids_there_are(subject: Subject) -> int | None:
    """Return V as something else than the config says it; padding is no contradiction."""
    if subject.mask is not None:
        return int(subject.mask.size)
    if subject.embedding is not None:
        return subject.embedding.shape[0]
    beyond = subject.target_vocab_size
    if beyond is None and subject.ids is not None:
        beyond = int(subject.ids.max()) + 1
    stated = subject.stated_vocab_size
    # where only the target can tell, a smaller number is padding unless it is K
    return beyond if beyond and stated == subject.draft_size and beyond > (stated or 0) else None


def _layers(subject: Subject) -> tuple[list[int] | None, list[int] | None]:
    """Return the outer and the inner list, where they are lists of numbers."""
    if not subject.eagle3 or subject.form is not Form.CHECKPOINT:
        return None, None
    nested = subject.config.get(NESTED_CONFIG)
    inner = nested.get(FEATURE_KEY) if isinstance(nested, dict) else None
    return _numbers(subject.config.get(FEATURE_KEY)), _numbers(inner)


def _numbers(value: Any) -> list[int] | None:
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return value
    return None


def _depth(target: Checkpoint | None) -> int | None:
    value = None if target is None else target.text_config.get("num_hidden_layers")
    return value if type(value) is int else None


def _target_width(subject: Subject) -> int | None:
    sources = [] if subject.target is None else [subject.target.text_config.get("hidden_size")]
    sources.append(subject.config.get("target_hidden_size"))
    return next((one for one in sources if type(one) is int), None)


_WEIGHTS = frozenset({Form.CHECKPOINT})
_BOTH = frozenset({Form.CHECKPOINT, Form.GGUF})
_FAULT, _NOTE = Severity.FAULT, Severity.NOTE

PLUGIN = (
    Check("config-draft-size", _FAULT, "draft_vocab_size", _WEIGHTS, draft_size),
    Check("config-vocab-size", _FAULT, "vocab_size", _WEIGHTS, vocab_size),
    Check("config-class", _FAULT, "architectures", _WEIGHTS, architecture),
    Check("config-speculators", _FAULT, "keys of speculators", _WEIGHTS, nested_layout),
    Check("config-one-layer", _FAULT, f"an LM in {CONFIG_FILE}", _WEIGHTS, taken_for_eagle3),
    Check("layers-contradict", _FAULT, "two lists of layers", _WEIGHTS, layers_contradict),
    Check("layers-unread", _FAULT, "where the list stands", _WEIGHTS, layers_unread),
    Check("layers-impossible", _FAULT, "the layers themselves", _WEIGHTS, layers_impossible),
    Check("target-width", _FAULT, "target_hidden_size", _WEIGHTS, target_width),
    Check("target-vocabulary", Severity.LOSS, "V against the target's", _BOTH, target_vocabulary),
)
