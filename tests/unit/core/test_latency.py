from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.latency import Latency, LatencyError, Line

LATENCY = Latency(
    batch=2,
    draft={1000: 0.003, 2000: 0.005, 4000: 0.009},
    verify={1: 0.010, 2: 0.014, 3: 0.016, 5: 0.020},
    commit=0.002,
)


@settings(deadline=None)
@given(
    st.floats(1e-4, 1),
    st.floats(0, 1e-2),
    st.sets(st.integers(1, 10_000), min_size=2, max_size=6),
)
def test_a_line_is_found_again(intercept: float, slope: float, values: set[int]) -> None:
    line = Line.through({value: intercept + slope * value for value in values})
    for value in values:
        assert line.at(value) == pytest.approx(intercept + slope * value, rel=1e-6)
    assert line.error < 1e-6


def test_the_error_is_the_largest_relative_one() -> None:
    points = {1: 1.0, 2: 2.0, 3: 4.0}
    line = Line.through(points)
    assert line.error == max(abs(line.at(x) / y - 1) for x, y in points.items()) > 0.05


def test_one_point_is_flat() -> None:
    assert Line.through({7: 0.5}).at(1000) == 0.5


@pytest.mark.parametrize("points", [{}, {1: 0.0}, {1: 1.0, 2: -1.0}])
def test_no_line_without_times(points: dict[int, float]) -> None:
    with pytest.raises(LatencyError, match="all above 0 seconds"):
        Line.through(points)


def test_a_cycle_is_its_parts() -> None:
    # a draft step is 1 ms + 2 ns a row; a pass of n > 1 tokens 10 ms + 2 ms a token
    assert LATENCY.draft_line.at(3000) == pytest.approx(0.007)
    assert LATENCY.cycle(3000, 3) == pytest.approx(3 * 0.007 + 0.002 + 0.018)
    assert LATENCY.cycle(3000, 0) == LATENCY.token() == 0.010
    assert LATENCY.passing(1) == 0.010  # and not the line's 12 ms
    assert LATENCY.error < 1e-9


def test_a_pass_is_what_was_measured_then_between_then_the_line() -> None:
    jumps = replace(LATENCY, verify={1: 0.01, 2: 0.02, 4: 0.03, 8: 0.09})
    assert [jumps.passing(n) for n in (1, 2, 4, 8)] == [0.01, 0.02, 0.03, 0.09]
    assert jumps.passing(3) == pytest.approx(0.025)
    assert jumps.passing(6) == pytest.approx(0.06)
    # beyond, from the last point on, by the line's slope
    assert jumps.passing(9) == pytest.approx(0.09 + jumps.verify_line.slope)
    # between a pass of one and the shortest that was timed, not as long as that
    few = replace(LATENCY, verify={1: 0.01, 5: 0.03})
    assert few.passing(2) == pytest.approx(0.015)
    assert few.passing(9) == pytest.approx(0.05)
    # a target pass of several tokens that nobody timed takes what one takes
    assert replace(LATENCY, verify={1: 0.01}).passing(5) == 0.01


def test_draft_steps_too() -> None:
    bent = replace(LATENCY, draft={10: 0.001, 20: 0.004, 40: 0.005})
    assert [bent.drafting(K) for K in (10, 20, 40)] == [0.001, 0.004, 0.005]
    assert bent.drafting(30) == pytest.approx(0.0045)
    assert bent.drafting(80) == pytest.approx(0.005 + 40 * bent.draft_line.slope)
    assert 0.0005 <= bent.drafting(5) < 0.001


def test_times_never_fall_below_their_share() -> None:
    noisy = replace(LATENCY, draft={256: 0.001, 512: 0.006, 1024: 0.020})
    assert noisy.draft_line.at(64) < 0
    assert noisy.drafting(64) == pytest.approx(0.001 / 4)
    falling = replace(LATENCY, draft={1000: 0.005, 4000: 0.003})
    assert falling.drafting(100_000) == 0.003


def test_the_error_is_of_a_cycle() -> None:
    bent = replace(LATENCY, draft={10: 0.001, 20: 0.004, 40: 0.005})
    # four drafts, as many as were timed, of the step that is furthest from its line
    off = {K: 4 * abs(bent.draft_line.at(K) - bent.draft[K]) / bent.cycle(K, 4) for K in bent.draft}
    assert bent.error == max(off.values()) > 0.05
    assert bent.error < bent.draft_line.error
    assert replace(bent, one_step=True).error < bent.error
    assert replace(bent, noise=0.9).error == 0.9


def test_one_step_drafts_them_all() -> None:
    block = replace(LATENCY, one_step=True)
    assert block.cycle(3000, 3) == pytest.approx(0.007 + 0.002 + 0.018)
    assert block.cycle(3000, 0) == 0.010


@pytest.mark.parametrize("one_step", [False, True])
def test_cycles_are_taken_apart_and_put_together(one_step: bool) -> None:
    def seconds(K: int, gamma: int) -> float:
        steps = 1 if one_step else gamma
        return 0.03 + 0.002 * gamma + 1e-6 * K * steps

    cycles = {(K, gamma): seconds(K, gamma) for K in (4000, 32_000) for gamma in (1, 2, 4)}
    found = Latency.of_cycles(8, 0.02, cycles, one_step=one_step)
    assert found.noise < 1e-9
    assert found.token() == 0.02
    for K in (1000, 4000, 16_000, 32_000):
        for gamma in (1, 2, 3, 4, 6):
            assert found.cycle(K, gamma) == pytest.approx(seconds(K, gamma)), (K, gamma)


def test_what_does_not_fit_is_the_noise() -> None:
    cycles = {
        (K, gamma): 0.03 + 0.01 * gamma + 1e-6 * K * gamma for K in (10, 99) for gamma in (1, 2)
    }
    bumped = cycles | {(99, 2): cycles[99, 2] * 1.2}
    found = Latency.of_cycles(1, 0.02, bumped)
    worst = max(abs(found.cycle(K, g) / seconds - 1) for (K, g), seconds in bumped.items())
    assert found.noise == pytest.approx(worst)
    assert found.noise > 0.02


@pytest.mark.parametrize(
    ("cycles", "said"),
    [
        ({}, "two sizes K and two draft lengths"),
        ({(8, 1): 1.0, (8, 2): 2.0, (8, 3): 3.0}, "two sizes K and two draft lengths"),
        ({(8, 1): 1.0, (9, 1): 2.0, (7, 1): 3.0}, "two sizes K and two draft lengths"),
        ({(8, 1): 1.0, (9, 1): 2.0, (9, 2): 0.0}, "all above 0"),
        ({(8, 1): 3.0, (8, 2): 1.0, (9, 1): 3.0, (9, 2): 1.0}, "do not grow with K"),
    ],
)
def test_cycles_that_explain_nothing(cycles: dict[tuple[int, int], float], said: str) -> None:
    with pytest.raises(LatencyError, match=said):
        Latency.of_cycles(1, 0.5, cycles)


def test_written_is_read() -> None:
    noisy = replace(LATENCY, noise=0.02, one_step=True)
    assert Latency.from_json(noisy.to_json()) == noisy
    assert noisy.to_json()["draft_line"]["slope"] == pytest.approx(2e-6)


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        LATENCY.to_json() | {"verify": {"2": 0.1}},
        LATENCY.to_json() | {"draft": {}},
        LATENCY.to_json() | {"noise": -0.1},
        LATENCY.to_json() | {"verify": {"1": 0.0}},
        LATENCY.to_json() | {"verify": {"1": 0.1, "2": -0.1}},
        LATENCY.to_json() | {"draft": {"8": float("nan")}},
        LATENCY.to_json() | {"draft": {"0": 0.1}},
        LATENCY.to_json() | {"commit": float("inf")},
    ],
)
def test_what_is_none_is_refused(document: object) -> None:
    with pytest.raises(LatencyError):
        Latency.from_json(document)
