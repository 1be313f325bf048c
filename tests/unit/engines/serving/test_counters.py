from __future__ import annotations

import pytest

from vocabtrim.engines.serving.counters import (
    Counted,
    CounterNames,
    Metrics,
    counted,
    is_exact,
    read_metrics,
    total,
)

NAMES = CounterNames("t", "d", "n", "a", "p", "s", exact_below=1e6)

TEXT = """# HELP vllm:n Number of draft tokens.
# TYPE vllm:n counter
vllm:n_total{engine="0",model_name="a b, c"} 12.0
vllm:n_total{engine="1",model_name="a b, c"} 3.0
vllm:p_total{engine="0",position="0"} 5.0
vllm:p_total{engine="1",position="0"} 1.0
vllm:p_total{engine="0",position="1"} 2.0
llamacpp:seconds 1.25e+01
llamacpp:odd not_a_number
no sample at all
"""


def test_samples_of_several_engines_add_up_and_positions_stay_apart() -> None:
    found = read_metrics(TEXT)
    assert found.totals == {"vllm:n_total": 15.0, "llamacpp:seconds": 12.5}
    assert found.positions == {"vllm:p_total": {0: 6.0, 1: 2.0}}


def reading(t: float, d: float = 0, n: float = 0, a: float = 0, *p: float) -> Metrics:
    totals = {"t": t, "d": d, "n": n, "a": a, "s": t / 100}
    return Metrics(totals, {"p": dict(enumerate(p))})


def test_a_block_is_the_difference_of_two_readings() -> None:
    before, after = reading(100, 40, 120, 30, 20, 8, 2), reading(130, 50, 150, 42, 27, 12, 3)
    found = counted(NAMES, before, after, 30)
    assert found == Counted(30, 10, 30, 12, (7, 4, 1), pytest.approx(0.3))
    assert found is not None
    assert found.block_efficiency == 2.2
    assert found.acceptance_rate == 0.4
    assert found.acceptance_by_position == [0.7, 0.4, 0.1]
    assert found.histogram(3) == [3, 3, 3, 1]
    assert sum(found.histogram(3)) == found.drafts
    assert sum(j * cycles for j, cycles in enumerate(found.histogram(3))) == found.accepted


def test_positions_that_appear_with_the_first_draft_count_from_zero() -> None:
    found = counted(NAMES, reading(0), reading(9, 5, 10, 3, 2, 1), 9)
    assert found is not None
    assert found.accepted_at == (2, 1)


@pytest.mark.parametrize("seen", [29, 31, 0])
def test_other_tokens_than_those_answered_are_no_count(seen: int) -> None:
    assert counted(NAMES, reading(100), reading(100 + seen), 30) is None


def test_an_engine_without_the_counter_has_no_count() -> None:
    assert counted(NAMES, Metrics({}, {}), Metrics({}, {}), 0) is None


def test_totals_that_are_printed_rounded_are_not_exact() -> None:
    after = reading(2_345_680, 7)
    assert counted(NAMES, reading(2_345_650), after, 37) is not None
    assert not is_exact(NAMES, after)
    assert is_exact(NAMES, reading(999_999, 999_999))
    assert not is_exact(NAMES, reading(5, 1, 1_000_000))


def test_parts_add_up_whatever_their_depth() -> None:
    parts = [Counted(5, 2, 4, 2, (1, 1), 0.5), Counted(), Counted(7, 3, 3, 1, (1,), None)]
    assert total(parts) == Counted(12, 5, 7, 3, (2, 1), 0.5)
    assert total([]) == Counted()


def test_what_was_not_drafted_has_no_rates() -> None:
    assert Counted(9).block_efficiency is None
    assert Counted(9).acceptance_rate is None
    assert Counted(9, accepted_at=(0, 0)).acceptance_by_position == [None, None]
    assert Counted(9).histogram(2) == [0, 0, 0]
