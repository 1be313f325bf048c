"""The rule alone: 200,000 texts of a Markov chain, drafted by another, against their exact law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.distributions import FALSE_ALARM, MOST_TESTS, joint_of, p_value
from tests.lossless.planted import FAULTS, Rule
from vocabtrim.decode.accept import Proposal, verify_sampled
from vocabtrim.decode.sampling import Sampling, distribution, pick

pytestmark = pytest.mark.proof

V, N, LENGTH = 12, 200_000, 3
GAMMA = 2
"""So that the token behind a fully accepted draft is among the first three."""
GENERATOR = torch.Generator().manual_seed(133)
P_LOGITS = 1.2 * torch.randn(V + 1, V, generator=GENERATOR, dtype=torch.float64)
"""Row i follows token i; row V begins."""
Q_LOGITS = P_LOGITS + 0.8 * torch.randn(V + 1, V, generator=GENERATOR, dtype=torch.float64)
LIKELY = P_LOGITS[V].argsort(descending=True).tolist()
"""First tokens, the likeliest first."""

VOCABS = {
    "K=1": LIKELY[:1],
    "K=2 without the likeliest": sorted(LIKELY[1:3]),
    "K=4": sorted([*LIKELY[:6:2], LIKELY[8]]),
    "K=11 without the likeliest": sorted(LIKELY[1:]),
    "K=V": list(range(V)),
}
SAMPLINGS = [
    Sampling(1.0),
    Sampling(0.7, top_k=6),
    Sampling(1.4, top_p=0.8),
    Sampling(1.1, top_k=8, top_p=0.9),
]
CASES = [
    (name, sampling, greedy)
    for name in VOCABS
    for sampling in SAMPLINGS
    for greedy in (False, True)
]


def texts(
    rule: Rule, vocab: list[int], sampling: Sampling, *, greedy: bool = False
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Decode N texts in cycles of the rule.

    Returns:
        Their first tokens, and [GAMMA + 1] how many first cycles accepted so many drafts.
    """
    p_all = distribution(P_LOGITS, sampling)
    ids = torch.tensor(vocab)
    q_all = distribution(Q_LOGITS[:, ids], sampling)
    generator = torch.Generator().manual_seed(7)

    def draws(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    emitted: list[list[int]] = [[] for _ in range(N)]
    last = torch.full((N,), V)
    histogram = []
    for _ in range(LENGTH):
        before, drafts, q, p = last, [], [], [p_all[last]]
        for _ in range(GAMMA):
            q.append(q_all[before])
            rows = q[-1].argmax(dim=1) if greedy else pick(q[-1], draws(N))
            before = ids[rows]
            drafts.append(before)
            p.append(p_all[before])
        proposal = Proposal(
            torch.stack(drafts, dim=1),
            None if greedy else torch.stack(q, dim=1),
            None if len(vocab) == V else ids,
        )
        lengths = torch.full((N,), GAMMA)
        accepted, last = rule(
            proposal, torch.stack(p, dim=1), lengths, draws(N, GAMMA), draws(N, GAMMA + 1)
        )
        histogram.append(torch.bincount(accepted, minlength=GAMMA + 1).tolist())
        for text, draft, count, token in zip(
            emitted, proposal.ids.tolist(), accepted.tolist(), last.tolist(), strict=True
        ):
            text.extend([*draft[:count], token])
    return [tuple(text[:LENGTH]) for text in emitted], histogram[0]


def exact(sampling: Sampling) -> Any:
    p_all = distribution(P_LOGITS, sampling).numpy()

    def following(prefix: tuple[int, ...]) -> np.ndarray:
        row: np.ndarray = p_all[prefix[-1] if prefix else V]
        return row

    return joint_of(following, LENGTH)


def test_the_family_is_small_enough_for_its_false_alarms() -> None:
    assert len(CASES) <= MOST_TESTS


@pytest.mark.parametrize(("name", "sampling", "greedy"), CASES, ids=str)
def test_texts_have_the_target_s_distribution(name: str, sampling: Sampling, greedy: bool) -> None:
    sample, histogram = texts(verify_sampled, VOCABS[name], sampling, greedy=greedy)
    assert p_value(sample, exact(sampling)) > FALSE_ALARM
    assert min(histogram) > 0
    assert 0.2 <= 1 - histogram[0] / N <= 0.8


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_a_planted_fault_is_found(fault: Rule, sampling: Sampling) -> None:
    sample, _ = texts(fault, VOCABS["K=11 without the likeliest"], sampling)
    assert p_value(sample, exact(sampling)) < FALSE_ALARM
