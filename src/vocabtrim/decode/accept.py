"""Which drafts stand: the verification rule, without models or tensors.

Greedy verification keeps a draft token as long as it is what the target itself
would have said there, then adds the target's own next token (Leviathan et al.,
2211.17192, with temperature 0; Chen et al., 2302.01318). What counts as drafted
follows `core/metrics.py`: an accepted EOS ends the cycle, nothing behind it
counts, and there is no bonus token.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


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
        if draft[accepted - 1] in eos_ids:
            return Verdict(accepted, accepted, tuple(draft[:accepted]))
    return Verdict(len(draft), accepted, (*draft[:accepted], predicted[accepted]))
