"""Medusa's heads: only where they share one head can that be reduced.

vLLM alone reads them (`models/medusa.py`): `truncated_vocab_size` rows and a
`token_map` of absolute ids, with `original_lm_head` true. With a head for each
position it builds all of V rows, whatever is stored.
"""

from __future__ import annotations

from collections.abc import Iterator

from vocabtrim.pipeline.checks.base import VLLM, Check, Said, Severity, refuses, said, wrong
from vocabtrim.pipeline.checks.listed import whole_numbers
from vocabtrim.pipeline.checks.subject import Form, Subject

KEY = "truncated_vocab_size"
MAP = "token_map"


def own_heads(subject: Subject) -> Iterator[Said]:
    """A reduced vocabulary with a head for each position."""
    K = _reduced_to(subject)
    if K is not None and subject.config.get("original_lm_head") is not True:
        yield said(
            f"{KEY} is {K:,}, and original_lm_head is not true",
            refuses(VLLM, "builds a head of all rows for each position"),
        )


def token_map(subject: Subject) -> Iterator[Said]:
    """The map of a reduced vocabulary."""
    K, V = _reduced_to(subject), subject.stated_vocab_size
    if K is None or V is None or subject.checkpoint is None:
        return
    if MAP not in subject.tensors:
        yield said(f"{KEY} is {K:,}, and there is no {MAP}", wrong(VLLM, "drafts the first ids"))
        return
    ids = whole_numbers(subject.checkpoint.array(MAP))
    if ids is None or ids.size != K:
        found = subject.tensors[MAP]
        yield said(
            f"{MAP} is {found.dtype} of shape {list(found.shape)} for {K:,} ids",
            refuses(VLLM, "finds it of a wrong shape"),
        )
    elif ids.min() < 0 or ids.max() >= V:
        yield said(
            f"{MAP} has ids from {ids.min():,} to {ids.max():,}, and there are {V:,}",
            refuses(VLLM, "indexes beyond the ids, or takes offsets for them"),
        )


def _reduced_to(subject: Subject) -> int | None:
    """Return K of a Medusa drafter over fewer than all ids."""
    K, V = subject.config.get(KEY), subject.stated_vocab_size
    if subject.config.get("model_type") != "medusa" or type(K) is not int or V is None:
        return None
    return K if 0 < K < V else None


_WEIGHTS = frozenset({Form.CHECKPOINT})
_FAULT = Severity.FAULT

PLUGIN = (
    Check("medusa-heads", _FAULT, "a reduced vocabulary of Medusa", _WEIGHTS, own_heads),
    Check("medusa-map", _FAULT, "the token_map of Medusa", _WEIGHTS, token_map),
)
