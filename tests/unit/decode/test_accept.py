"""The rules against their plain definitions: every small draft, and integrals over the draws."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.accept import Proposal, Verdict, settle, verify_greedy, verify_sampled
from vocabtrim.decode.sampling import pick

IDS = range(3)
EOS = {2}


def plain(draft: tuple[int, ...], predicted: tuple[int, ...]) -> Verdict:
    """Decode one token at a time, as without drafts, for as long as the draft helps."""
    emitted: list[int] = []
    for position, token in enumerate(predicted):
        emitted.append(token)
        agrees = position < len(draft) and draft[position] == token
        if agrees and token in EOS:
            return Verdict(len(emitted), len(emitted), tuple(emitted))
        if not agrees:
            break
    return Verdict(len(draft), len(emitted) - 1, tuple(emitted))


@pytest.mark.parametrize("length", range(4))
def test_every_small_draft(length: int) -> None:
    for draft in product(IDS, repeat=length):
        for predicted in product(IDS, repeat=length + 1):
            found = verify_greedy(draft, predicted, EOS)
            assert found == plain(draft, predicted), (draft, predicted)
            AcceptCounts.of_cycles(3, [(found.drafted, found.accepted, len(found.tokens))])


def test_an_accepted_eos_ends_the_cycle_and_nothing_behind_it_counts() -> None:
    assert verify_greedy([5, 9, 5], [5, 9, 5, 5], {9}) == Verdict(2, 2, (5, 9))
    assert verify_greedy([5, 9, 5], [5, 9, 5, 5], {9, 5}) == Verdict(1, 1, (5,))


def test_an_eos_of_the_target_alone_is_no_accepted_one() -> None:
    # the target ends where the draft goes on: all of the draft was drafted
    assert verify_greedy([5, 6, 7], [5, 9, 7, 7], {9}) == Verdict(3, 1, (5, 9))
    # and a bonus token may be an EOS
    assert verify_greedy([5, 6], [5, 6, 9], {9}) == Verdict(2, 2, (5, 6, 9))


def test_a_rejected_eos_ends_nothing() -> None:
    assert verify_greedy([9, 6], [5, 6, 7], {9}) == Verdict(2, 0, (5,))


def test_a_verdict_is_a_value() -> None:
    assert len({verify_greedy([5], [5, 6], EOS), Verdict(1, 1, (5, 6))}) == 1


def test_without_a_draft_the_target_speaks() -> None:
    assert verify_greedy([], [4], {9}) == Verdict(0, 0, (4,))
    assert verify_greedy([], [9], {9}) == Verdict(0, 0, (9,))


def test_an_eos_ends_what_is_settled() -> None:
    assert settle([5, 6, 7], 2, 8, {9}) == Verdict(3, 2, (5, 6, 8))
    assert settle([5, 6, 7], 3, 8, {6}) == Verdict(2, 2, (5, 6))
    assert settle([5, 6, 7], 1, 8, {6}) == Verdict(3, 1, (5, 8))
    assert settle([5, 6, 7], 0, 6, {6}) == Verdict(3, 0, (6,))


V, GRID = 6, 100
MIDDLES = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
"""Even draws: what they give in all is an integral, up to a grid cell at each boundary."""
S = torch.tensor([1, 3, 4])


def chances(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) ** 2 + 0.01
    return weights / weights.sum(dim=-1, keepdim=True)


def emitted(
    p: torch.Tensor, q: torch.Tensor | None, ids: torch.Tensor | None, draft: int
) -> torch.Tensor:
    """Integrate over both draws: [V] how the token in the place of one draft is distributed."""
    accept_draws = MIDDLES.repeat_interleave(GRID)[:, None]
    following_draws = MIDDLES.repeat(GRID)[:, None].expand(-1, 2)
    rows = GRID * GRID
    proposal = Proposal(
        torch.full((rows, 1), draft), None if q is None else q.expand(rows, 1, -1), ids
    )
    both = torch.stack([p, torch.eye(V, dtype=torch.float64)[0]]).expand(rows, 2, V)
    lengths = torch.ones(rows, dtype=torch.int64)
    accepted, following = verify_sampled(proposal, both, lengths, accept_draws, following_draws)
    tokens = torch.where(accepted == 1, draft, following)
    return torch.bincount(tokens, minlength=V).double() / rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reduced", [True, False])
def test_whatever_q_is_the_token_is_distributed_as_p(seed: int, reduced: bool) -> None:
    ids = S if reduced else torch.arange(V)
    p, q = chances(seed, V), chances(seed + 50, len(ids))
    found = torch.zeros(V, dtype=torch.float64)
    for row, token in enumerate(ids.tolist()):
        found += q[row] * emitted(p, q, ids if reduced else None, token)
    torch.testing.assert_close(found, p, rtol=0, atol=2 / GRID)


@pytest.mark.parametrize("draft", range(V))
def test_a_draft_that_was_chosen_is_a_q_of_one_point(draft: int) -> None:
    p = chances(1, V)
    torch.testing.assert_close(emitted(p, None, S, draft), p, rtol=0, atol=2 / GRID)
    alone = torch.ones(1, dtype=torch.float64)
    one_id = emitted(p, alone, torch.tensor([draft]), draft)
    torch.testing.assert_close(one_id, emitted(p, None, None, draft), rtol=0, atol=1e-12)


def test_a_draft_stands_with_p_over_q_and_falls_to_the_residual() -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.05, 0.2], dtype=torch.float64)
    q = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    # id 1 stands with 0.2 / 0.5; the residual is p, less q on S: 0.1, 0, 0.3, 0, 0, 0.2 of 0.6
    rest = torch.tensor([0.1, 0.0, 0.3, 0.0, 0.0, 0.2], dtype=torch.float64) / 0.6
    expected = 0.6 * rest
    expected[1] += 0.4
    torch.testing.assert_close(emitted(p, q, S, 1), expected, rtol=0, atol=2 / GRID)
    # p above q: it always stands
    certain = emitted(p, torch.tensor([0.9, 0.1, 0.0], dtype=torch.float64), S, 3)
    assert certain[3] == 1.0


def verified(
    draft: list[int], draws: list[float], following: float = 0.5, length: int | None = None
) -> tuple[int, int]:
    """Verify one row of drafts over S against p that differ by depth."""
    n = len(draft)
    p, q = chances(3, 1, n + 1, V), chances(4, 1, n, len(S))
    accepted, token = verify_sampled(
        Proposal(torch.tensor([draft]), q, S),
        p,
        torch.tensor([n if length is None else length]),
        torch.tensor([draws], dtype=torch.float64),
        torch.full((1, n + 1), following, dtype=torch.float64),
    )
    return int(accepted), int(token)


def test_the_first_rejection_ends_the_draft() -> None:
    never, always = 0.999999, 0.0
    assert verified([1, 3, 4], [always] * 3)[0] == 3
    assert verified([1, 3, 4], [always, never, always])[0] in (1, 3)
    p, q = chances(3, 1, 4, V), chances(4, 1, 3, 3)
    for depth, token in enumerate((1, 3, 4)):
        share = float(p[0, depth, token] / q[0, depth, depth])
        draws = [always] * 3
        draws[depth] = min(share * 1.000001, 1.0)
        assert verified([1, 3, 4], draws)[0] == (depth if share < 1 else 3)
        draws[depth] = share * 0.999999
        assert verified([1, 3, 4], draws)[0] == 3


def test_each_position_has_its_own_p_q_and_draw() -> None:
    p, q = chances(3, 1, 4, V), chances(4, 1, 3, 3)
    wide = torch.zeros(4, V, dtype=torch.float64)
    wide[:3].index_copy_(1, S, q[0])
    for stop in range(4):
        draws = [0.0] * 3
        if stop < 3:
            draws[stop] = 1.0  # no number of [0, 1): q must be above p for it to fall
            if p[0, stop, S[stop]] >= q[0, stop, stop]:
                continue
        rest = (p[0, stop] - wide[stop]).clamp(min=0)
        for number in (0.05, 0.3, 0.6, 0.95):
            accepted, token = verified([1, 3, 4], draws, number)
            assert accepted == stop
            assert token == int(pick(rest[None], torch.tensor([number], dtype=torch.float64)))


def test_drafts_beyond_a_rows_length_do_not_count() -> None:
    for length in range(4):
        accepted, token = verified([1, 3, 4], [0.0] * 3, 0.3, length)
        assert accepted == length
        p = chances(3, 1, 4, V)
        # and the token behind them comes from p, for nothing was rejected
        assert token == int(pick(p[:, length], torch.tensor([0.3], dtype=torch.float64)))


def test_rows_are_verified_each_by_itself() -> None:
    p, q = chances(5, 8, 3, V), chances(6, 8, 2, 3)
    generator = torch.Generator().manual_seed(7)
    draft = S[torch.randint(0, 3, (8, 2), generator=generator)]
    lengths = torch.tensor([0, 1, 2, 2, 2, 1, 2, 0])
    draws = torch.rand(8, 2, generator=generator, dtype=torch.float64)
    following = torch.rand(8, 3, generator=generator, dtype=torch.float64)
    together = verify_sampled(Proposal(draft, q, S), p, lengths, draws, following)
    assert 0 < int(together[0].sum()) < int(lengths.sum())
    for row in range(8):
        one = slice(row, row + 1)
        alone = verify_sampled(
            Proposal(draft[one], q[one], S), p[one], lengths[one], draws[one], following[one]
        )
        assert [int(part) for part in alone] == [int(part[row]) for part in together]


def test_without_drafts_the_target_is_sampled() -> None:
    p = chances(8, 4, 1, V)
    numbers = torch.tensor([[0.1], [0.4], [0.7], [0.9]], dtype=torch.float64)
    nothing = Proposal(torch.zeros(4, 0, dtype=torch.int64))
    accepted, token = verify_sampled(
        nothing, p, torch.zeros(4, dtype=torch.int64), numbers[:, :0], numbers
    )
    assert accepted.tolist() == [0] * 4
    assert torch.equal(token, pick(p[:, 0], numbers[:, 0]))


@pytest.mark.parametrize("ids", [S, None])
def test_p_and_q_that_are_equal_leave_p(ids: torch.Tensor | None) -> None:
    # up to rounding such a draft always stands; a draw at the very edge must not find nothing
    p = torch.zeros(1, 2, V, dtype=torch.float64)
    p[0, :, S] = 1 / 3
    q = p[:, :1] if ids is None else p[:, :1, S]
    accepted, token = verify_sampled(
        Proposal(torch.tensor([[3]]), q, ids),
        p,
        torch.ones(1, dtype=torch.int64),
        torch.tensor([[1.0]], dtype=torch.float64),
        torch.tensor([[0.5, 0.5]], dtype=torch.float64),
    )
    assert (int(accepted), int(token)) == (0, 3)


def test_what_is_given_is_not_changed() -> None:
    p, q = chances(5, 8, 3, V), chances(6, 8, 2, 3)
    before = p.clone(), q.clone()
    draws = torch.full((8, 3), 0.99, dtype=torch.float64)
    draft = torch.full((8, 2), 1)
    lengths = torch.full((8,), 2)
    accepted, _ = verify_sampled(Proposal(draft, q, S), p, lengths, draws[:, :2], draws)
    assert int(accepted.min()) < 2
    assert torch.equal(p, before[0])
    assert torch.equal(q, before[1])
