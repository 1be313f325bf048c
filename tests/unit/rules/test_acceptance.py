from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.traces import TOKENIZER, V, World
from tests.unit.rules.evidence import NONE, evidence_of
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.trace import Trace, TracedText
from vocabtrim.replay.replay import Nested, accepted, runs
from vocabtrim.rules.acceptance import Acceptance, worths
from vocabtrim.rules.base import Evidence, by_trace
from vocabtrim.rules.top_k import TopK

# one text: ids 5, 6, 7, 8 after a first token; the drafter of two depths ranks 6 and 7 first
# wherever they come, and 3 above the others
TOKENS = np.array([9, 5, 6, 7, 8])


def small(*, own_depths: bool = True) -> Trace:
    ranks = {5: 1, 6: 0, 7: 0, 8: 1}
    depths = 2 if own_depths else 1
    rank = np.full((4, depths), -1, dtype=np.int32)
    candidates = np.zeros((4, depths, 2), dtype=np.int32)
    for row, depth in np.ndindex(4, depths):
        if row + depth < 4:
            token = int(TOKENS[row + depth + 1])
            rank[row, depth] = ranks[token]
            candidates[row, depth] = (3, token) if ranks[token] else (token, 3)
    return Trace(
        texts=(TracedText("a", "", np.array([1]), TOKENS, 5),),
        candidates=candidates,
        scores=np.zeros((4, depths, 2), dtype=np.float32),
        target_rank=rank,
        target_score=np.zeros((4, depths), dtype=np.float32),
        own_depths=own_depths,
        max_gamma=2,
        vocab_size=10,
        tokenizer="t",
        above={},
    )


def inside(*ids: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(10), ids)


@pytest.mark.parametrize("own_depths", [True, False])
def test_a_token_is_worth_what_a_draft_would_lose(own_depths: bool) -> None:
    trace = small(own_depths=own_depths)
    # with 3 for a rival only 6 and 7 are accepted: drafts 6 7, 7 and nothing else
    ids, worth = worths(trace, inside(3), 2)
    assert sorted(zip(ids.tolist(), worth.tolist(), strict=True)) == [(6, 2), (7, 1), (7, 1)]
    # without it all are: 5 6, 6 7, 7 8, 8
    ids, worth = worths(trace, inside(), 2)
    assert sorted(zip(ids.tolist(), worth.tolist(), strict=True)) == [
        (5, 2), (6, 1), (6, 2), (7, 1), (7, 2), (8, 1), (8, 1),
    ]  # fmt: skip
    ids, worth = worths(trace, inside(), 1)
    assert sorted(zip(ids.tolist(), worth.tolist(), strict=True)) == [
        (5, 1),
        (6, 1),
        (7, 1),
        (8, 1),
    ]


@pytest.mark.parametrize("own_depths", [True, False])
def test_worths_add_up_to_what_is_accepted(own_depths: bool) -> None:
    world = World(3, texts=9, own_depths=own_depths)
    trace = world.trace()
    everything = np.ones(V, dtype=bool)
    for gamma in (1, 3):
        ids, worth = worths(trace, everything, gamma)
        lengths = np.minimum(runs(trace, accepted(trace, everything)), gamma)
        # a run of n is worth n at its first token, n - 1 at its second, …
        assert worth.sum() == (lengths * (lengths + 1) // 2).sum()
        assert len(ids) == lengths.sum()


def evidence(counts: list[int], documents: list[int] | None = None) -> Evidence:
    numbers = np.array(counts)
    found = TokenCounts(numbers, np.array(documents or np.sign(numbers)), 9, "t")
    return Evidence(found, trace=small())


def chosen(rule: Acceptance, given: Evidence, must_keep: NDArray[np.int64] = NONE) -> list[int]:
    return rule.select(given, must_keep).ids.tolist()


def test_ids_that_win_come_before_frequent_ones() -> None:
    #           0  1  2  3  4  5  6  7  8  9
    counts = [0, 0, 0, 9, 9, 7, 6, 6, 7, 0]
    assert Acceptance(2, exact=True, strength=0.1).select(evidence(counts), NONE).ids.tolist() == [
        6,
        7,
    ]
    # smoothed away, frequency is left
    assert chosen(Acceptance(2, exact=True, strength=1e9), evidence(counts)) == [3, 4]
    assert chosen(Acceptance(2, exact=True), replace(evidence(counts), trace=None)) == [3, 4]


def test_ids_that_the_trace_has_not_seen_go_by_documents() -> None:
    # 6 and 7 win, in three documents each; 5 and 8 win nothing, in one; 2 and 4 are not in the
    # trace, 2 in three documents and 4, the more frequent one, in one
    counts = [0, 0, 5, 20, 6, 1, 3, 3, 1, 0]
    documents = [0, 0, 3, 1, 1, 1, 3, 3, 1, 0]
    rule = Acceptance(5, exact=True, strength=0.5)
    assert chosen(rule, evidence(counts, documents))[:2] == [2, 3]
    assert 4 not in chosen(Acceptance(4, exact=True, strength=0.5), evidence(counts, documents))


def test_an_id_that_is_often_there_and_seldom_right_wins_less() -> None:
    tokens = np.array([9, 6, 6, 6, 7])
    rank = np.array([[1], [0], [1], [0]], dtype=np.int32)
    candidates = np.array([[[3, 6]], [[6, 3]], [[3, 6]], [[7, 3]]], dtype=np.int32)
    trace = replace(
        small(own_depths=False),
        texts=(TracedText("a", "", np.array([1]), tokens, 5),),
        candidates=candidates,
        target_rank=rank,
        max_gamma=1,
    )
    #           0  1  2  3  4  5  6  7  8  9
    counts = [0, 0, 0, 9, 0, 0, 5, 5, 0, 0]
    # 6 is right in one of three places, 7 in the only one
    given = replace(evidence(counts), trace=trace)
    assert chosen(Acceptance(1, exact=True, strength=0.1), given) == [7]


def test_an_id_that_only_the_trace_has_seen_wins_too() -> None:
    counts = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    found = chosen(Acceptance(2, exact=True, strength=0.01), evidence(counts))
    assert found == [6, 7]


def test_a_trace_of_nothing_leaves_frequency() -> None:
    empty = World(3, texts=0).trace()
    numbers = np.arange(V)
    given = Evidence(TokenCounts(numbers, np.sign(numbers), 9, TOKENIZER), trace=empty)
    assert chosen(Acceptance(2, exact=True), given) == [V - 2, V - 1]


def test_it_says_that_it_needs_a_trace_and_plans_for_four_drafts() -> None:
    assert by_trace(Acceptance(1))
    assert not by_trace(TopK(1))
    assert Acceptance(1).gamma == 4


def test_rivals_are_the_most_frequent() -> None:
    # with K = 1 the rival 3 is not among the rows, so 5 and 8 would be accepted too
    counts = [0, 0, 0, 1, 0, 9, 2, 2, 2, 0]
    assert chosen(Acceptance(1, exact=True, strength=0.1), evidence(counts)) == [5]


def test_the_draft_length_is_the_traces_at_most() -> None:
    counts = [0, 0, 0, 9, 9, 7, 6, 6, 7, 0]
    longest = chosen(Acceptance(3, exact=True, gamma=9, strength=0.1), evidence(counts))
    assert longest == chosen(Acceptance(3, exact=True, gamma=2, strength=0.1), evidence(counts))


def test_kept_ids_are_inside_k() -> None:
    counts = [0, 0, 0, 9, 9, 7, 6, 6, 7, 0]
    rule = Acceptance(2, exact=True, strength=0.1)
    assert chosen(rule, evidence(counts), np.array([0])) in ([0, 6], [0, 7])


def test_k_is_rounded_up_unless_exact() -> None:
    assert Acceptance(65).select(evidence_of([1] * 200), NONE).size == 128
    assert Acceptance(65, exact=True).select(evidence_of([1] * 200), NONE).size == 65


def test_it_gains_on_the_text_that_it_saw() -> None:
    """Where evidence is plenty and not held out, it has to beat frequency."""
    world = World(5, texts=60)
    trace = world.trace()
    seen = np.bincount(np.concatenate([text.tokens for text in world.texts]), minlength=V)
    given = Evidence(TokenCounts(seen, np.sign(seen), 60, TOKENIZER), trace=trace)
    order = given.ranking(NONE)
    nested = Nested(trace, order)
    gains = []
    for size in (3, 4, 5, 6):
        vocab = Acceptance(size, exact=True, strength=0.5).select(given, NONE)
        ours = runs(trace, accepted(trace, vocab.t2d)).sum()
        gains.append(int(ours - runs(trace, nested.accepted(size)).sum()))
    assert min(gains) >= 0
    assert max(gains) > 0


def test_an_id_without_a_row_in_the_traced_head_wins_nothing() -> None:
    world = World(5, texts=60)
    seen = np.bincount(np.concatenate([text.tokens for text in world.texts]), minlength=V)
    held = np.array([one for one in range(V) if one not in (1, 2)])
    whole = world.trace()
    rank = np.where(np.isin(whole.wanted, [1, 2]), V, whole.target_rank).astype(np.int32)
    trace = replace(whole, target_rank=rank, head_ids=held)
    given = Evidence(TokenCounts(seen, np.sign(seen), 60, TOKENIZER), trace=trace)
    assert set(TopK(4, exact=True).select(given, NONE).ids) & {1, 2}
    assert set(Acceptance(11, exact=True).select(given, NONE).ids) == set(held)
