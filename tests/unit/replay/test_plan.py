from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.traces import TOKENIZER, V, World
from vocabtrim.core.latency import Latency
from vocabtrim.core.trace import Trace, TracedText, TraceError
from vocabtrim.replay.plan import (
    Advice,
    Point,
    bound,
    gain_interval,
    plan,
    point,
    seconds_of,
    surface,
)
from vocabtrim.replay.replay import Nested

GAMMAS = (1, 2, 3, 4)


def latency(*, per_row: float = 1e-3, verify: float = 0.01, batch: int = 1) -> Latency:
    return Latency(
        batch,
        {4: 0.001 + 4 * per_row, 13: 0.001 + 13 * per_row},
        {1: verify, 2: verify * 1.1, 5: verify * 1.4},
        0.0005,
    )


def made(
    K: int,
    gamma: int,
    *,
    rate: float,
    speedup: float,
    seconds: NDArray[np.float64] | None = None,
) -> Point:
    return Point(K, gamma, 1.5, rate, speedup, np.ones(1) if seconds is None else seconds)


def test_seconds_are_those_of_the_cycles() -> None:
    measured = latency()
    made = np.array([[2, 0, 3], [0, 1, 0]])
    expected = [2 * measured.cycle(8, 0) + 3 * measured.cycle(8, 2), measured.cycle(8, 1)]
    assert seconds_of(made, 8, measured) == pytest.approx(expected)


def test_a_point_is_tokens_over_seconds() -> None:
    nested = Nested(World(2, texts=12).trace(), np.arange(V))
    measured = latency(batch=3)
    (replayed,) = nested.replay(9, [2])
    found = point(9, replayed, measured)
    counts = replayed.pooled
    seconds = seconds_of(replayed.made, 9, measured).sum()
    assert (found.K, found.gamma) == (9, 2)
    assert found.block_efficiency == counts.block_efficiency
    assert found.tokens_per_second == pytest.approx(3 * counts.tokens / seconds)
    assert found.speedup == pytest.approx(counts.tokens * 0.01 / seconds)


def test_drafts_behind_the_end_take_their_time() -> None:
    # an answer of two tokens, the second an EOS that every draft has right
    text = TracedText("yes", "", np.array([1]), np.array([2, 3]), 128)
    ranks, best = np.array([[0, -1, -1, -1]]), np.array([[[3], [0], [0], [0]]])
    trace = Trace(
        (text,), best.astype(np.int32), np.ones((1, 4, 1), np.float32), ranks.astype(np.int32),
        np.ones((1, 4), np.float32), True, 4, V, TOKENIZER, {},
    )  # fmt: skip
    (found,) = Nested(trace, np.arange(V)).replay(V, [4])
    assert found.pooled.drafted.tolist() == [0, 1, 0, 0, 0]
    assert found.made.tolist() == [[0, 0, 0, 0, 1]]
    measured = latency()
    assert point(V, found, measured).speedup == pytest.approx(0.01 / measured.cycle(V, 4))


def chosen(measured: Latency) -> tuple[Advice, Point]:
    nested = Nested(World(2, texts=40).trace(), np.arange(V))
    points = surface(lambda size: nested.replay(size, GAMMAS), [4, 8, 11, V], measured)
    assert len(points) == 16
    found = plan(points, V, measured, margin=0.01)
    assert found.best == max(points, key=lambda one: one.tokens_per_second)
    assert found.full.K == V
    assert found.gain >= 1
    return found.advice, found.best


def test_advice_follows_the_machine() -> None:
    # rows that cost: fewer of them
    advice, best = chosen(latency(per_row=1e-3, verify=0.02))
    assert advice is Advice.TRIM
    assert best.K < V
    # a draft step dearer than a target pass
    advice, best = chosen(latency(per_row=1e-2, verify=0.001))
    assert advice is Advice.DO_NOT_SPECULATE
    assert best.speedup < 1


def test_a_vocabulary_that_loses_more_than_it_saves_is_not_taken() -> None:
    points = [
        made(4, 2, rate=80.0, speedup=1.1),
        made(V, 2, rate=120.0, speedup=1.6),
        made(V, 1, rate=99.0, speedup=1.4),
    ]
    found = plan(points, V, latency(), margin=0.01)
    assert (found.advice, found.best) == (Advice.DO_NOT_TRIM, points[1])
    assert found.chosen == points[1]


def test_a_gain_within_the_error_is_none() -> None:
    points = [made(4, 1, rate=101.0, speedup=1.31), made(V, 1, rate=100.0, speedup=1.30)]
    within = plan(points, V, latency(), margin=0.02)
    assert (within.advice, within.chosen) == (Advice.DO_NOT_TRIM, points[1])
    above = plan(points, V, latency(), margin=0.005)
    assert (above.advice, above.chosen) == (Advice.TRIM, points[0])


def test_a_gain_that_other_prompts_might_not_show_is_none() -> None:
    # faster in all, by one prompt of eight
    lucky = np.array([1.0, 4.0] + [1.1] * 6), np.array([9.0, 3.9] + [1.0] * 6)
    steady = np.full(8, 1.0), np.full(8, 1.1)
    for (ours, theirs), advice in ((lucky, Advice.DO_NOT_TRIM), (steady, Advice.TRIM)):
        rates = [100.0 / ours.sum(), 100.0 / theirs.sum()]
        points = [
            made(4, 1, rate=rates[0], speedup=1.9, seconds=ours),
            made(V, 1, rate=rates[1], speedup=1.5, seconds=theirs),
        ]
        found = plan(points, V, latency(), margin=0.01)
        assert found.gain > 1.01
        assert found.advice is advice
        assert found.interval is not None
        assert found.interval[0] <= found.gain <= found.interval[1] + 1e-9
    assert gain_interval(np.ones(3), np.ones(3)) is None


def test_bounds_decide_nothing_but_that_speculation_does_not_pay() -> None:
    points = [made(4, 1, rate=80.0, speedup=1.2), made(V, 1, rate=100.0, speedup=1.5)]
    assert plan(points, V, latency(), margin=0.0, bounds=True).advice is Advice.UNDECIDED
    slow = [made(4, 1, rate=80.0, speedup=0.8), made(V, 1, rate=100.0, speedup=0.9)]
    assert plan(slow, V, latency(), margin=0.0, bounds=True).advice is Advice.DO_NOT_SPECULATE


def test_a_plan_needs_the_full_drafter() -> None:
    with pytest.raises(TraceError, match="13 rows are missing"):
        plan([made(4, 1, rate=1.0, speedup=1.0)], 13, latency())


def test_texts_without_a_cycle_have_no_point() -> None:
    trace = World(2, texts=0).trace()
    (replayed,) = Nested(trace, np.arange(V)).replay(4, [1])
    with pytest.raises(TraceError, match="too short for a single cycle"):
        point(4, replayed, latency())


@pytest.mark.parametrize(
    ("tokens", "outside", "cycles"),
    [(100, 0, 20), (101, 0, 21), (100, 10, 20), (100, 40, 40), (3, 3, 3)],
)
def test_a_bound_is_the_fewest_cycles(tokens: int, outside: int, cycles: int) -> None:
    (found,) = bound(tokens, outside, [4])
    counts = found.pooled
    assert (counts.cycles, counts.tokens) == (cycles, tokens)
    assert counts.n_accepted == tokens - cycles
    assert counts.drafted[4] == cycles


def test_no_drafter_beats_the_bound() -> None:
    world = World(4, texts=30)
    inside = np.arange(6)
    for gamma in GAMMAS:
        decoded = world.decode(inside, gamma)
        pooled = sum(decoded[1:], decoded[0])
        outside = sum(int((text.tokens[1:] >= 6).sum()) for text in world.texts)
        (found,) = bound(pooled.tokens, outside, [gamma])
        assert found.pooled.cycles <= pooled.cycles


def test_a_bound_needs_tokens() -> None:
    with pytest.raises(TraceError, match="needs counted tokens"):
        bound(0, 0, [1])
