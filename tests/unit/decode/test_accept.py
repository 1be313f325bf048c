"""The rule against its plain definition, over every small draft."""

from __future__ import annotations

from itertools import product

import pytest

from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.accept import Verdict, verify_greedy

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
