"""What the config says of sizes and classes.

K is `draft_vocab_size`, which SGLang asks for and where null means that the head is
the target's; `vocab_size` stays V whatever K is, because embedding, logits and the
map are sized by it. By the class an engine picks its loader. Which of the target's
layers are fed is `layers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from vocabtrim.pipeline.checks.verifier import architecture_value
from vocabtrim.tensors.checkpoint import CONFIG_FILE
from vocabtrim.tensors.speculators_config import LAYER_CONFIG

SGLANG_CLASS = "LlamaForCausalLMEagle3"
INDEPENDENT = "independent"
MASK_STATE = "mask_hidden"

LLAMA_CPP_PADDING = 128
"""Ids by which drafter and target may differ in llama.cpp (`common/speculative.cpp`)."""


def draft_size(subject: Subject) -> Iterator[Said]:
    """`draft_vocab_size`, where a head is reduced, and where it is null."""
    if not subject.eagle3:
        return
    if "draft_vocab_size" in subject.config:
        if subject.config["draft_vocab_size"] is None:
            yield from _null_size(subject)
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


def _null_size(subject: Subject) -> Iterator[Said]:
    """Say what null means beside a head: to SGLang, that the head is the target's."""
    if subject.rows is None:
        return
    if subject.reduced:
        yield said(
            f"draft_vocab_size is null, and its head has {subject.rows:,} rows",
            refuses(VLLM, "takes it for V and asserts that the head has as many rows"),
            refuses(SGLANG, "takes it for V and asserts that the head has as many rows"),
        )
    else:
        yield said(
            "draft_vocab_size is null beside a head of its own",
            wrong(SGLANG, "drafts with the target's head in its place, silently"),
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
            wrong(VLLM, "takes it for true, and speculators and llama.cpp for false"),
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
    hidden = None if subject.target is None else subject.target.hidden_size
    stated = subject.config.get("target_hidden_size")
    if subject.gguf is not None:
        stated = architecture_value(subject.gguf, "target_hidden_size")
    if hidden is None or not (subject.fused or subject.kind):
        return
    if stated not in (None, hidden):
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
    what = f"it has {stated:,} ids and the target {V:,}, padded otherwise or of another tokenizer"
    if INDEPENDENT not in subject.families:
        yield said(
            what,
            slower(VLLM, "drafts greedily only: sampling compares rows of logits of one length"),
        )
    elif not subject.reduced:
        near = abs(stated - V) <= LLAMA_CPP_PADDING
        readers = [
            refuses(VLLM, "asks for one vocab_size, unless it is told use_heterogeneous_vocab"),
            refuses(SGLANG, "asks for one vocab_size"),
        ]
        if not near:
            text = f"allows a difference of {LLAMA_CPP_PADDING}"
            readers.append(refuses(LLAMA_CPP, text))
        yield said(what, *readers)


def several_at_once(subject: Subject) -> Iterator[Said]:
    """P-EAGLE: an EAGLE-3 drafter that predicts several tokens in one step."""
    if MASK_STATE in subject.tensors:
        yield said(
            f"it has a {MASK_STATE}: it drafts several tokens at once (P-EAGLE)",
            odd(VLLM, "asks for parallel_drafting, and leaves that tensor out without it"),
            lacks(SGLANG, "has no code for that"),
            lacks(LLAMA_CPP, "has no code for that"),
        )


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


_WEIGHTS = frozenset({Form.CHECKPOINT})
_BOTH = frozenset({Form.CHECKPOINT, Form.GGUF})
_FAULT, _NOTE = Severity.FAULT, Severity.NOTE

PLUGIN = (
    Check("config-draft-size", _FAULT, "draft_vocab_size", _WEIGHTS, draft_size),
    Check("config-vocab-size", _FAULT, "vocab_size", _WEIGHTS, vocab_size),
    Check("config-class", _FAULT, "architectures", _WEIGHTS, architecture),
    Check("config-speculators", _FAULT, "keys of speculators", _WEIGHTS, nested_layout),
    Check("config-one-layer", _FAULT, f"an LM in {CONFIG_FILE}", _WEIGHTS, taken_for_eagle3),
    Check("target-width", _FAULT, "target_hidden_size", _BOTH, target_width),
    Check("target-vocabulary", _FAULT, "V against the target's", _BOTH, target_vocabulary),
    Check("config-parallel", _NOTE, "several tokens at once", _WEIGHTS, several_at_once),
)
