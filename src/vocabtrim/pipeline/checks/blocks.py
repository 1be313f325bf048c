"""Drafters of whole blocks: DFlash and DSpark, in directories.

Their head is the target's unless the file brings one, with a map beside it; of
DSpark, the Markov table behind the head runs over the draft vocabulary too. vLLM
reads both (`qwen3_dflash.py`, `qwen3_dspark.py`); SGLang takes the target's head
and passes over what it does not know (`models/dflash.py`, `dspark.py`). No family
of ours trims them as directories; they are recognised by their class.
"""

from __future__ import annotations

from collections.abc import Iterator

from vocabtrim.pipeline.checks.base import (
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
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.head_source import D2T, HEAD_WEIGHT

MARKOV = "markov_head.markov_w2.weight"


def missing(subject: Subject) -> Iterator[Said]:
    """Head and map, where fewer ids are stated."""
    kind, K, V = _kind(subject), subject.stated_draft_size, subject.vocab_size
    if kind is None or K is None or V is None or K >= V:
        return
    lacking = [name for name in (HEAD_WEIGHT, D2T) if name not in subject.tensors]
    if not lacking:
        return
    effect = (
        refuses(VLLM, "asks for both")
        if kind == "DSpark"
        else wrong(VLLM, "takes the first rows of the target's head, or the first ids, silently")
    )
    yield said(f"it drafts over {K:,} of {V:,} ids and has no {lacking[0]}", effect)


def ignored(subject: Subject) -> Iterator[Said]:
    """A reduced head that an engine does not look at."""
    if _kind(subject) is not None and D2T in subject.tensors and subject.reduced:
        effect = (
            refuses(SGLANG, "finds the Markov table of a wrong shape")
            if MARKOV in subject.tensors
            else slower(SGLANG, "drafts over all ids with the target's head, and says nothing")
        )
        readers = [effect]
        if MARKOV not in subject.tensors:
            readers.append(lacks(LLAMA_CPP, "has no place for a map in its converter of DFlash"))
        yield said("it brings a reduced head of its own", *readers)


def whole_only(subject: Subject) -> Iterator[Said]:
    """A reduced head beside a block drafter whose candidates run over all ids."""
    K, V = subject.stated_draft_size, subject.vocab_size
    reduced = (K is not None and V is not None and K < V) or (D2T in subject.tensors)
    effect = _WHOLE_ONLY.get(_class(subject))
    if effect is not None and reduced:
        yield said(f"its head is reduced, and its class is {_class(subject)}", effect)


def markov(subject: Subject) -> Iterator[Said]:
    """Rows of the Markov table against those of the head."""
    info = subject.tensors.get(MARKOV)
    if info is not None and subject.rows not in (None, *info.shape[:1]):
        yield said(
            f"{MARKOV} has the shape {list(info.shape)} for a head of {subject.rows:,} rows",
            refuses(VLLM, "finds it of a wrong shape"),
        )


def _kind(subject: Subject) -> str | None:
    """Return which of the two it is; those that cannot be reduced are neither."""
    name = _class(subject)
    if name in _WHOLE_ONLY:
        return None
    return next((kind for kind in ("DFlash", "DSpark") if kind in name), None)


def _class(subject: Subject) -> str:
    names = subject.config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


_WHOLE_ONLY = {
    "DFlash2DraftModel": wrong(VLLM, "takes its candidates for ids of the target, silently"),
    "LiLiCorrDraftModel": refuses(VLLM, "asks for all ids"),
    "DFlashLagunaForCausalLM": refuses(VLLM, "asks for all ids: the head is the target's"),
    "K3DSparkModel": refuses(VLLM, "asks for all ids"),
    "Gemma4DSparkModel": refuses(VLLM, "has no place for a map: the head is of a wrong shape"),
}
"""Classes whose drafts run over all ids, and what becomes of a head of fewer."""


_WEIGHTS = frozenset({Form.CHECKPOINT})
_FAULT = Severity.FAULT

PLUGIN = (
    Check("block-missing", _FAULT, "head and map of DFlash and DSpark", _WEIGHTS, missing),
    Check("block-ignored", _FAULT, "a reduced head beside a block", _WEIGHTS, ignored),
    Check("block-whole", _FAULT, "classes that draft over all ids", _WEIGHTS, whole_only),
    Check("block-markov", _FAULT, "rows of the Markov table", _WEIGHTS, markov),
)
