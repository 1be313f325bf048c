"""Faults of sampled verification, as they are found in the wild, to be planted in ours.

Each is a replacement of `verify_sampled` that differs from it in one respect.
Where nothing was drafted there is no q, and nothing to get wrong about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from vocabtrim.decode import accept
from vocabtrim.decode.accept import Proposal, verify_sampled

Rule = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def over_v(proposal: Proposal, V: int) -> torch.Tensor:
    """Return q of every depth over all of V, [B, n, V]."""
    assert proposal.q is not None
    if proposal.vocab_ids is None:
        return proposal.q
    wide = proposal.q.new_zeros((*proposal.q.shape[:2], V))
    return wide.index_copy(2, proposal.vocab_ids, proposal.q)


def q_before_renormalising(proposal: Proposal, p: torch.Tensor, *rest: Any) -> Any:
    """The drafts were drawn over S, but q is still that over V: its mass on S is below 1."""
    if proposal.q is None:
        return verify_sampled(proposal, p, *rest)
    return verify_sampled(replace(proposal, q=proposal.q * 0.7), p, *rest)


def residual_over_s_only(proposal: Proposal, p: torch.Tensor, *rest: Any) -> Any:
    """What replaces a rejected draft comes from the draft vocabulary again."""
    if proposal.vocab_ids is None:
        return verify_sampled(proposal, p, *rest)
    outside = torch.ones(p.shape[-1], dtype=torch.bool)
    outside[proposal.vocab_ids] = False
    original = accept._residual

    def masked(*args: Any) -> torch.Tensor:
        rest = original(*args)
        inside = rest.masked_fill(outside, 0.0)
        return torch.where(inside.sum(dim=1, keepdim=True) > 0, inside, rest)

    accept._residual = masked
    try:
        return verify_sampled(proposal, p, *rest)
    finally:
        accept._residual = original


def bonus_from_q(proposal: Proposal, p: torch.Tensor, *rest: Any) -> Any:
    """The token behind a fully accepted draft is drawn from the drafter's last distribution."""
    if proposal.q is None:
        return verify_sampled(proposal, p, *rest)
    wrong = torch.cat([p[:, :-1], over_v(proposal, p.shape[-1])[:, -1:].to(p.dtype)], dim=1)
    return verify_sampled(proposal, wrong, *rest)


def p_one_position_late(proposal: Proposal, p: torch.Tensor, *rest: Any) -> Any:
    """Each draft is held against the distribution behind it, not the one before it."""
    return verify_sampled(proposal, torch.cat([p[:, 1:], p[:, -1:]], dim=1), *rest)


def p_one_position_early(proposal: Proposal, p: torch.Tensor, *rest: Any) -> Any:
    """Each draft is held against the distribution that chose the token before it."""
    return verify_sampled(proposal, torch.cat([p[:, :1], p[:, :-1]], dim=1), *rest)


FAULTS: tuple[Rule, ...] = (
    q_before_renormalising,
    residual_over_s_only,
    bonus_from_q,
    p_one_position_late,
    p_one_position_early,
)
