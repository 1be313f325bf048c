import math

import pytest
import torch
from torch.nn import functional

from recipes.training.head_loss import Labels, Proposal, soft_cross_entropy

V, H, S, M = 200, 16, 30, 9


def problem(seed: int = 0, scale: float = 1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = (scale * torch.randn(S, H, generator=generator)).requires_grad_()
    head = torch.randn(V, H, generator=generator)
    ids = torch.stack([torch.randperm(V, generator=generator)[:M].sort().values for _ in range(S)])
    chances = torch.rand(S, M, generator=generator).softmax(1)
    return hidden, head, ids, chances


def counts() -> torch.Tensor:
    return 1000 // (1 + torch.arange(V))


def dense(ids, chances):
    return torch.zeros(S, V).scatter_(1, ids, chances)


def test_the_full_loss_and_its_gradient_are_those_of_torch():
    hidden, head, ids, chances = problem()
    loss, choice = soft_cross_entropy(hidden, head, Labels(ids, chances), None)
    expected = functional.cross_entropy(hidden @ head.T, dense(ids, chances), reduction="none")
    torch.testing.assert_close(loss, expected)
    assert choice.equal((hidden @ head.T).argmax(1))
    weights = torch.arange(1.0, S + 1)
    ours = torch.autograd.grad((loss * weights).sum(), hidden)[0]
    theirs = torch.autograd.grad((expected * weights).sum(), hidden)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_drawing_every_id_is_the_full_loss():
    hidden, head, ids, chances = problem()
    draw = Proposal(counts(), V).draw(head, 0)
    assert len(draw.ids) == V
    loss, choice = soft_cross_entropy(hidden, head, Labels(ids, chances), draw)
    expected, best = soft_cross_entropy(hidden, head, Labels(ids, chances), None)
    torch.testing.assert_close(loss, expected)
    assert choice.equal(best)
    ours = torch.autograd.grad(loss.sum(), hidden)[0]
    theirs = torch.autograd.grad(expected.sum(), hidden)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_drawn_loss_is_the_softmax_over_corrected_logits():
    hidden, head, ids, chances = problem(1)
    proposal = Proposal(counts(), 60)
    draw = proposal.draw(head, 5)
    loss, choice = soft_cross_entropy(hidden, head, Labels(ids, chances), draw)
    logits = hidden @ head.T
    corrected = logits - proposal.chance.log()
    took_part = torch.zeros(S, V, dtype=torch.bool)
    took_part[:, draw.ids] = True
    own = dense(ids, torch.ones(S, M)).bool()
    mixed = torch.where(own, logits, corrected).masked_fill(~(took_part | own), -math.inf)
    expected = mixed.logsumexp(1) - (chances * logits.gather(1, ids)).sum(1)
    torch.testing.assert_close(loss, expected)
    assert choice.equal(logits.masked_fill(~(took_part | own), -math.inf).argmax(1))
    ours = torch.autograd.grad(loss.sum(), hidden)[0]
    theirs = torch.autograd.grad(expected.sum(), hidden)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_partition_function_is_unbiased():
    """1,500 draws; within 5 standard errors in 30 rows: false alarm below 2e-5."""
    hidden, head, ids, chances = problem(2, scale=0.4)
    hidden = hidden.detach()
    logits = hidden @ head.T
    own = (chances * logits.gather(1, ids)).sum(1)
    proposal = Proposal(counts(), 60)
    draws = [
        (
            soft_cross_entropy(hidden, head, Labels(ids, chances), proposal.draw(head, one))[0]
            + own
        ).exp()
        for one in range(1500)
    ]
    found = torch.stack(draws).double()
    error = found.std(0) / math.sqrt(len(draws))
    assert ((found.mean(0) - logits.double().exp().sum(1)).abs() < 5 * error).all()


@pytest.mark.parametrize("expected", [1, 20, 150])
def test_as_many_ids_are_drawn_as_expected(expected):
    chance = Proposal(counts(), expected).chance
    # the most frequent id is always there, whatever its chance was
    assert float(chance.sum()) == pytest.approx(expected, abs=1.0)
    assert chance[0] == 1
    assert (chance.diff() <= 0).all()


def test_a_seed_names_a_draw():
    head = torch.randn(V, H)
    proposal = Proposal(counts(), 60)
    one = proposal.draw(head, 7)
    assert one.ids.equal(proposal.draw(head, 7).ids)
    assert not one.ids.equal(proposal.draw(head, 8).ids)
    assert one.column_of[one.ids].equal(torch.arange(len(one.ids)))
    assert one.rows[:-1].equal(head[one.ids])
