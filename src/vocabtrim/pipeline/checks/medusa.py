"""Medusa's heads: only where they share one head can that be reduced.

vLLM alone reads them (`models/medusa.py`): `truncated_vocab_size` rows and a
`token_map` of absolute ids, with `original_lm_head` true. With a head for each
position it builds all of V rows, whatever is stored.
"""

from __future__ import annotations

from collections.abc import Iterator

from vocabtrim.pipeline.checks.base import VLLM, Check, Said, Severity, refuses, said, slower, wrong
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
    ids = subject.numbers(subject.tensors[MAP])
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


def other_target(subject: Subject) -> Iterator[Said]:
    """V of a reduced drafter against the target's, which must be the same to the id."""
    K, V, found = _reduced_to(subject), subject.stated_vocab_size, subject.target_vocab_size
    if K is not None and found not in (None, V):
        cut = any("lm_head" in name and K in info.shape for name, info in subject.tensors.items())
        effect = f"takes the target's for both and forgets that {KEY} is {K:,}"
        yield said(
            f"vocab_size is {V:,}, and the target's is {found:,}",
            refuses(VLLM, f"{effect}: the head is of a wrong shape")
            if cut
            else slower(VLLM, f"{effect}: it drafts over all"),
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
    Check("medusa-vocab-size", _FAULT, "V of Medusa against the target's", _WEIGHTS, other_target),
)
