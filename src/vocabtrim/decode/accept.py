"""Which drafts stand: the verification rules, without models or caches.

Greedy: a draft token stands as long as it is what the target itself would have
said there. Sampled (Leviathan et al., 2211.17192, algorithm 1; Chen et al.,
2302.01318): a draft x, drawn from q, stands with probability min(1, p(x) / q(x));
the first that falls is replaced by a draw from max(0, p - q), scaled to sum to 1;
where all stand, one more token is drawn from p. What is emitted is distributed as
p, whatever q is. Here q lives on the draft vocabulary and sums to 1 over it, p
and the residual on all of V: an id that no drafter can propose keeps all of its p.
A draft that was not drawn but chosen is a q of one point.

What counts as drafted follows `core/metrics.py`: an accepted EOS ends the cycle,
nothing behind it counts, and there is no bonus token.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from vocabtrim.decode.sampling import pick


@dataclass(frozen=True)
class Verdict:
    """What a cycle came to.

    Args:
        drafted: Draft tokens that count.
        accepted: How many of them stand.
        tokens: What the cycle emits: the accepted ones, then the target's own
            unless the last accepted one is an EOS.
    """

    drafted: int
    accepted: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Proposal:
    """Drafts of several texts, and where they come from.

    Args:
        ids: [B, n] int64 target ids.
        q: [B, n, K] the distributions over the draft vocabulary from which they
            were drawn; None where each was chosen, a q of one point.
        vocab_ids: [K] int64 target ids of the draft vocabulary; None for all of V.
        counts: [B] how many drafts of each text count.
    """

    ids: torch.Tensor
    q: torch.Tensor | None = None
    vocab_ids: torch.Tensor | None = None
    counts: tuple[int, ...] = ()


def settle(
    draft: Sequence[int], accepted: int, following: int, eos_ids: Collection[int]
) -> Verdict:
    """Return what is emitted when the first drafts stand.

    Args:
        draft: [n] draft tokens, n may be 0.
        accepted: How many of them stand.
        following: The target's own token behind them.
        eos_ids: Ids that end a generation.
    """
    for index, token in enumerate(draft[:accepted], 1):
        if token in eos_ids:
            return Verdict(index, index, tuple(draft[:index]))
    return Verdict(len(draft), accepted, (*draft[:accepted], following))


def verify_greedy(
    draft: Sequence[int], predicted: Sequence[int], eos_ids: Collection[int]
) -> Verdict:
    """Compare a draft with the target's likeliest ids.

    Args:
        draft: [n] draft tokens, n may be 0.
        predicted: [n + 1] the target's argmax after each prefix of the draft.
        eos_ids: Ids that end a generation.

    Returns:
        The longest agreeing prefix and what is emitted.
    """
    accepted = 0
    while accepted < len(draft) and draft[accepted] == predicted[accepted]:
        accepted += 1
    return settle(draft, accepted, predicted[accepted], eos_ids)


def verify_sampled(
    proposal: Proposal,
    p: torch.Tensor,
    lengths: torch.Tensor,
    accept_draws: torch.Tensor,
    token_draws: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Accept drafts, and draw what follows them, so that the target's distribution remains.

    Args:
        proposal: The drafts, [B, n].
        p: [B, n + 1, V] the target's distribution after each prefix of a draft.
        lengths: [B] int64, how many drafts of each row count, at most n.
        accept_draws: [B, n] numbers in [0, 1), one for each draft.
        token_draws: [B, n + 1] numbers in [0, 1), one for each token that may follow.

    Returns:
        How many drafts stand, and the token that follows them, [B] int64 each.
    """
    rows, depths = torch.arange(p.shape[0], device=p.device), proposal.ids.shape[1]
    stands = _stands(proposal, p, accept_draws)
    stands &= torch.arange(depths, device=p.device) < lengths[:, None]
    accepted = stands.long().cumprod(dim=1).sum(dim=1)
    following = p[rows, accepted]
    rejected = (accepted < lengths).nonzero()[:, 0]
    if rejected.numel():
        at = accepted[rejected]
        following[rejected] = _residual(proposal, following[rejected], rejected, at)
    return accepted, pick(following, token_draws[rows, accepted])


def _stands(proposal: Proposal, p: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """[B, n] whether each draft stands by itself: with probability min(1, p / q)."""
    p_drafted = p[:, :-1].gather(2, proposal.ids[..., None])[..., 0]
    if proposal.q is None:
        return draws < p_drafted
    rows = proposal.ids
    if proposal.vocab_ids is not None:
        # the vocabulary ascends, so an id's row is found by bisection
        rows = torch.searchsorted(proposal.vocab_ids, proposal.ids)
    q_drafted = proposal.q.gather(2, rows[..., None])[..., 0]
    return draws * q_drafted < p_drafted


def _residual(
    proposal: Proposal, p: torch.Tensor, rows: torch.Tensor, depths: torch.Tensor
) -> torch.Tensor:
    """[R, V], not scaled: what p [R, V] has more than q at a depth of each of these rows."""
    if proposal.q is None:
        rest = p.scatter(1, proposal.ids[rows, depths][:, None], 0.0)
    elif proposal.vocab_ids is None:
        rest = (p - proposal.q[rows, depths]).clamp(min=0)
    else:
        rest = p.index_add(1, proposal.vocab_ids, proposal.q[rows, depths], alpha=-1).clamp(min=0)
    # p and q equal up to rounding leave nothing; then a draw from p is one from either
    return torch.where(rest.sum(dim=1, keepdim=True) > 0, rest, p)
