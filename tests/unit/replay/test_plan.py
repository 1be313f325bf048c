from __future__ import annotations

import numpy as np
import pytest

from tests.traces import V, World
from vocabtrim.core.latency import Latency
from vocabtrim.core.trace import TraceError
from vocabtrim.replay.plan import Advice, Point, bound, plan, point, seconds_of, surface
from vocabtrim.replay.replay import Nested

GAMMAS = (1, 2, 3, 4)


def latency(*, per_row: float = 1e-3, verify: float = 0.01, batch: int = 1) -> Latency:
    return Latency(
        batch,
        {4: 0.001 + 4 * per_row, 13: 0.001 + 13 * per_row},
        {1: verify, 2: verify * 1.1, 5: verify * 1.4},
        0.0005,
    )


def test_seconds_are_those_of_the_cycles() -> None:
    measured = latency()
    drafted = np.array([2, 0, 3])
    expected = 2 * measured.cycle(8, 0) + 3 * measured.cycle(8, 2)
    assert seconds_of(drafted, 8, measured) == pytest.approx(expected)


def test_a_point_is_tokens_over_seconds() -> None:
    nested = Nested(World(2, texts=12).trace(), np.arange(V))
    measured = latency(batch=3)
    (replayed,) = nested.replay(9, [2])
    found = point(9, replayed, measured)
    counts = replayed.pooled
    seconds = seconds_of(counts.drafted, 9, measured)
    assert (found.K, found.gamma) == (9, 2)
    assert found.block_efficiency == counts.block_efficiency
    assert found.tokens_per_second == pytest.approx(3 * counts.tokens / seconds)
    assert found.speedup == pytest.approx(counts.tokens * 0.01 / seconds)


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
        Point(4, 2, 1.2, 80.0, 1.1),
        Point(V, 2, 1.9, 120.0, 1.6),
        Point(V, 1, 1.5, 99.0, 1.4),
    ]
    found = plan(points, V, latency(), margin=0.01)
    assert (found.advice, found.best) == (Advice.DO_NOT_TRIM, points[1])


def test_a_gain_within_the_error_is_none() -> None:
    points = [Point(4, 1, 1.5, 101.0, 1.31), Point(V, 1, 1.6, 100.0, 1.30)]
    assert plan(points, V, latency(), margin=0.02).advice is Advice.DO_NOT_TRIM
    assert plan(points, V, latency(), margin=0.005).advice is Advice.TRIM


def test_a_plan_needs_the_full_drafter() -> None:
    with pytest.raises(TraceError, match="13 rows are missing"):
        plan([Point(4, 1, 1.5, 1.0, 1.0)], 13, latency())


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
