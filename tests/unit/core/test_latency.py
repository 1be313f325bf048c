from __future__ import annotations

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


def test_written_is_read() -> None:
    assert Latency.from_json(LATENCY.to_json()) == LATENCY


@pytest.mark.parametrize(
    "document",
    [None, {}, LATENCY.to_json() | {"verify": {"2": 0.1}}, LATENCY.to_json() | {"draft": {}}],
)
def test_what_is_none_is_refused(document: object) -> None:
    with pytest.raises(LatencyError):
        Latency.from_json(document)
