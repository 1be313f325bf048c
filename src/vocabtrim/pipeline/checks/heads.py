"""The head: there, of the rows that are stated, in one piece, and under a right name.

Which rows an engine builds follows from the config, which it loads from the file,
and the two meet in an assertion or not at all. What each engine does was read in
the sources named in `maps.py` and in vLLM's `vocab_parallel_embedding.py` and
`logits_processor.py`, SGLang's `models/llama.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vocabtrim.engines.base import ENGINES, Container, Engine, cell_of
from vocabtrim.engines.vllm.architectures import ARCHITECTURES, EAGLE
from vocabtrim.families.base import TRIMMED_PREFIX
from vocabtrim.pipeline.checks.base import (
    ALL,
    LLAMA_CPP,
    SGLANG,
    TRANSFORMERS,
    VLLM,
    Check,
    Effect,
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
from vocabtrim.pipeline.checks.values import sampled
from vocabtrim.tensors.gguf_drafter import OUTPUT
from vocabtrim.tensors.head_source import D2T, HEAD_WEIGHT

LOOKED_AT = 256
"""Rows that are looked into, spread over the head."""

ONE_A_VALUE = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8"})
"""Types that hold one value of the head in each element."""

EAGLE1 = "eagle"

_STOCK = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def missing(subject: Subject) -> Iterator[Said]:
    """No head where one of fewer rows is stated."""
    if subject.head_parts or not (subject.fused or subject.kind) or not _says_reduced(subject):
        return
    if subject.form is Form.GGUF:
        what = f"there is a {D2T} and no {OUTPUT}"
        yield said(
            what, refuses(LLAMA_CPP, "stops at the first draft: the target's head is larger")
        )
        return
    yield said(
        f"it drafts over {subject.draft_size:,} of {subject.vocab_size:,} ids and has no "
        f"{HEAD_WEIGHT}",
        wrong(VLLM, "takes the first rows of the target's head, silently"),
        wrong(SGLANG, "drafts with a head that nothing filled, silently"),
        refuses(LLAMA_CPP, "stops at the first draft: the target's head is larger"),
    )


def unfilled(subject: Subject) -> Iterator[Said]:
    """No head, all ids, and a K where SGLang wants null."""
    shared = subject.eagle3 and not subject.head_parts
    if (
        shared
        and subject.form is Form.CHECKPOINT
        and subject.stated_draft_size
        and not subject.reduced
    ):
        yield said(
            "its head is the target's, and draft_vocab_size is stated",
            lacks(SGLANG, "takes the target's head only where that is null; `export --to sglang`"),
        )


def stated(subject: Subject) -> Iterator[Said]:
    """`draft_vocab_size` against the rows of the head."""
    rows, K = subject.rows, subject.stated_draft_size
    if rows is None or K is None or rows == K or subject.form is not Form.CHECKPOINT:
        return
    yield said(
        f"draft_vocab_size is {K:,}, and its head has {rows:,} rows",
        refuses(VLLM, "asserts that they agree"),
        refuses(SGLANG, "asserts that they agree"),
        refuses(LLAMA_CPP, "takes as many rows as there are ids in the map"),
    )


def width(subject: Subject) -> Iterator[Said]:
    """Columns of the head against the hidden size."""
    if subject.checkpoint is None or subject.head is None or subject.sidecar:
        return
    if subject.head.dtype not in ONE_A_VALUE:
        return  # several values share a byte, and how many the type does not say
    hidden = subject.checkpoint.text_config.get("hidden_size")
    if type(hidden) is int and subject.head.shape[1] != hidden:
        yield said(
            f"rows of {subject.head.name} have {subject.head.shape[1]} values, and hidden_size "
            f"is {hidden}",
            refuses(ALL, "finds the head of a wrong shape"),
        )


def tied(subject: Subject) -> Iterator[Said]:
    """A config that ties a head to the embedding, and a head that is another matrix."""
    checkpoint = subject.checkpoint
    if checkpoint is None:
        return
    # the outer word counts where there is one, as in transformers
    outer = subject.config.get("tie_word_embeddings")
    says = checkpoint.text_config.get("tie_word_embeddings") if outer is None else outer
    if says is not True:
        return
    beside = "a head of fewer rows" if subject.reduced else "a head of its own"
    if subject.eagle3:
        if subject.head is None:
            yield from _tied_without_head(subject)
            return
        yield said(
            f"tie_word_embeddings is true beside {beside}",
            wrong(SGLANG, "drafts with its whole embedding and never loads the rows"),
            odd(VLLM, "does not look at it"),
        )
    elif EAGLE1 in subject.families:
        yield said(
            "tie_word_embeddings is true, and its head is the target's",
            refuses(SGLANG, "cannot put the target's in place of one matrix twice"),
        )
    elif subject.reduced and subject.head is not None:
        effect = "drafts with the whole embedding and skips the rows"
        yield said(
            f"tie_word_embeddings is true beside {beside}",
            wrong(VLLM, effect),
            wrong(SGLANG, effect),
            wrong(TRANSFORMERS, effect),
        )


def _tied_without_head(subject: Subject) -> Iterator[Said]:
    """Say what happens to a drafter that says it is tied and has the target's head."""
    if subject.target is not None and subject.target.tied:
        return
    yield said(
        "tie_word_embeddings is true, and it has no head",
        wrong(SGLANG, "drafts with the embedding: right only if the target's head is that too"),
        odd(VLLM, "takes the target's head"),
    )


def not_read(subject: Subject) -> Iterator[Said]:
    """A whole head beside EAGLE-1 or EAGLE-2, which draft with the target's."""
    if EAGLE1 in subject.families and subject.head_parts and not subject.reduced:
        yield said(
            "it stores a head, and drafters of its family have the target's",
            refuses(VLLM, "knows no parameter of that name"),
            odd(SGLANG, "passes over it"),
        )


def bias(subject: Subject) -> Iterator[Said]:
    """A bias of the head, which no engine has for these drafters."""
    info = subject.head_parts.get("bias")
    if info is None:
        return
    if subject.rows not in (None, *info.shape[:1]):
        yield said(
            f"{info.name} has {info.shape[0] if info.shape else 0:,} entries for "
            f"{subject.rows:,} rows",
            refuses(ALL, "finds it of a wrong shape"),
        )
    elif subject.fused:
        yield said(
            "its head has a bias",
            slower(VLLM, "leaves it out, and drafts a little off"),
            slower(SGLANG, "leaves it out, and drafts a little off"),
            refuses(LLAMA_CPP, "has no place for it"),
        )


def stock_name(subject: Subject) -> Iterator[Said]:
    """A reduced head under a class name whose loaders expect all rows."""
    names = _architectures(subject)
    reduced = subject.reduced and subject.head is not None
    if not reduced or subject.eagle3 or subject.sidecar or not names:
        return
    if not (subject.families or names[0].endswith(_STOCK)):
        return
    if names[0].startswith(TRIMMED_PREFIX):
        yield said(
            f"its class is {names[0]}, which stock loaders refuse, as is meant",
            *(_of_trimmed(engine, subject, names[0]) for engine in ENGINES.load_all().values()),
        )
        return
    yield said(
        f"its head has {subject.rows:,} of {subject.vocab_size:,} rows under the stock class "
        f"{names[0]}",
        refuses(VLLM, "asserts that the head has all rows"),
        refuses(SGLANG, "asserts that the head has all rows"),
        refuses(TRANSFORMERS, "finds the head of a wrong shape, or fills a random one"),
        refuses(LLAMA_CPP, "finds the head of a wrong shape"),
    )


def dead_rows(subject: Subject) -> Iterator[Said]:
    """Rows of nothing but zeros, or with values that are no numbers."""
    values = sampled(subject, LOOKED_AT)
    if values is None:
        return
    rows, found = values
    for what, bad, effect in (
        ("are no finite numbers", ~np.isfinite(found).all(axis=1), "drafts their ids or none"),
        ("are all zeros", ~found.any(axis=1), "drafts as if those ids were missing"),
    ):
        if bad.any():
            yield said(
                f"{int(bad.sum())} of {rows.size} rows looked at {what} (row {rows[bad][0]:,})",
                wrong(ALL, effect),
            )


def _of_trimmed(engine: Engine, subject: Subject, name: str) -> Effect:
    """Return what an engine makes of a class that we named."""
    family = subject.families[0] if subject.families else ""
    given = cell_of(engine, family, [Container.FLAT])
    if engine.name == VLLM and not {name, f"{EAGLE}{name}"} & ARCHITECTURES.keys():
        given = None  # its plug-in has a head for some classes only
    if given is not None and given.level.proven:
        return odd(
            engine.name, f"drafts with it ({given.note})" if given.note else "drafts with it"
        )
    if cell_of(engine, family, [Container.ID_LIST]) is not None:
        return lacks(engine.name, f"takes a list of ids beside it: `export --to {engine.name}`")
    return lacks(engine.name, "has no head of fewer rows for it")


def _says_reduced(subject: Subject) -> bool:
    if subject.form is Form.GGUF:
        return subject.map is not None
    K, V = subject.stated_draft_size, subject.vocab_size
    return (
        V is not None
        and subject.draft_size is not None
        and ((K is not None and K < V) or subject.reduced)
    )


def _architectures(subject: Subject) -> list[str]:
    names = subject.config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


_BOTH = frozenset({Form.CHECKPOINT, Form.GGUF})
_WEIGHTS = frozenset({Form.CHECKPOINT})
_FAULT, _NOTE = Severity.FAULT, Severity.NOTE

PLUGIN = (
    Check("head-missing", _FAULT, "a head where one is stated", _BOTH, missing),
    Check("head-shared", _NOTE, "a stated K beside the target's head", _WEIGHTS, unfilled),
    Check("head-rows", _FAULT, "draft_vocab_size against rows", _WEIGHTS, stated),
    Check("head-width", _FAULT, "columns against hidden_size", _WEIGHTS, width),
    Check("head-tied", _FAULT, "tie_word_embeddings", _WEIGHTS, tied),
    Check("head-not-read", _FAULT, "a head where engines take the target's", _WEIGHTS, not_read),
    Check("head-bias", _FAULT, "a bias of the head", _WEIGHTS, bias),
    Check("head-stock-class", _FAULT, "the class of a reduced LM", _WEIGHTS, stock_name),
    Check("head-dead-rows", _FAULT, "zeros and infinities in rows", _BOTH, dead_rows),
)
