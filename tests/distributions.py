"""Exact distributions of short texts, and how samples are held against them.

A sample of n texts is compared with the exact joint distribution of their first
tokens by Pearson's chi-square; cells that expect fewer than `LEAST` texts are
pooled. Each comparison may fail with probability `FALSE_ALARM`, so that a family
of at most `MOST_TESTS` of them fails by chance with 1e-8 (Bonferroni). That the
statistic is chi-square in the limit only costs a factor at such tails: with
cells of five its variance is a tenth larger, which makes 1e-10 less than 1e-9,
so the family stays below 1e-6 with two decades to spare. The draws are hashed or
seeded: a run that passed passes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

FALSE_ALARM = 1e-10
MOST_TESTS = 100
LEAST = 5.0

Joint = Mapping[tuple[int, ...], float]
"""Probability by text: all of one length, or shorter where they end with an EOS."""


def joint_of(
    following: Callable[[tuple[int, ...]], np.ndarray], length: int, eos_ids: Iterable[int] = ()
) -> Joint:
    """Multiply out the first tokens of a text.

    Args:
        following: From a prefix to the distribution [V] of the next token.
        length: Tokens, at least 1.
        eos_ids: Ids that end a text.
    """
    ends = set(eos_ids)
    open_, closed = {(): 1.0}, {}
    for _ in range(length):
        longer = {}
        for prefix, chance in open_.items():
            for token, share in enumerate(following(prefix)):
                if share > 0:
                    where = closed if token in ends else longer
                    where[*prefix, token] = chance * float(share)
        open_ = longer
    return closed | open_


def p_value(sample: Iterable[tuple[int, ...]], joint: Joint) -> float:
    """Return how likely a sample at least this far from a distribution is."""
    seen = Counter(sample)
    if seen.keys() - joint.keys():
        return 0.0
    texts = list(joint)
    observed = np.array([seen[text] for text in texts], dtype=float)
    expected = np.array([joint[text] for text in texts]) * observed.sum()
    order = np.argsort(expected)
    observed, expected = observed[order], expected[order]
    # the rarest cells become one, and as many more as it needs to expect enough itself
    rare = int((expected < LEAST).sum())
    while rare and expected[:rare].sum() < LEAST and rare < len(expected):
        rare += 1
    if rare:
        observed = np.concatenate([[observed[:rare].sum()], observed[rare:]])
        expected = np.concatenate([[expected[:rare].sum()], expected[rare:]])
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(expected) - 1
    if freedom == 0:
        return 1.0
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))
