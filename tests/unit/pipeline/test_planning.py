"""What a reader sees of a plan; how it comes about is tested in `test_plan.py`."""

from __future__ import annotations

from dataclasses import replace

from vocabtrim.pipeline.planning import BatchPlan, Drift, PlannedPoint, PlanResult

SMALL = PlannedPoint(1024, 2, 1.4, 20.0, 1.25, 1.1, 1.3, 2)
FULL = PlannedPoint(49_152, 1, 1.3, 16.0, 1.0, 0.7, 0.9, 1)
GRID = (replace(SMALL, gamma=1, speedup=1.1), SMALL, FULL, replace(FULL, gamma=2, speedup=0.8))
ONE = BatchPlan(1, "trim", SMALL, FULL, SMALL, 1.25, 0.03, (1.1, 1.4), 16.0, GRID)
DRIFT = Drift("math", 3, 1.2, 1.3, 0.9, 0.95, 4096, 1, 0.8)
RESULT = PlanResult(
    "big", "small", 49_152, 49_152, 12, 500, "trace", "latency", (ONE,), SMALL, -9_400_000,
    (DRIFT,), {},
)  # fmt: skip


def test_lines() -> None:
    lines = RESULT.lines()
    assert lines[0] == (
        "speed-up over autoregressive decoding (16.0 tokens/s), from the trace; batch 1, "
        "12 prompts, 500 tokens"
    )
    assert lines[1].split() == ["K", "γ", "=", "1", "γ", "=", "2"]
    assert lines[5] == (
        "trim: K = 1,024 at γ = 2 is 1.250 times as fast as autoregressive decoding and 1.250 "
        "[1.100, 1.400] times as fast as all 49,152 rows at γ = 1 (equal within 3.0%)"
    )
    assert lines[6].startswith("MBSU       1.100 there, 1.300 by bytes read; it is best, 1.100")
    assert lines[7] == "memory     -9.4 MB of weights"
    assert lines[-1].split() == ["math", "3", "1.200", "1.300", "0.900", "0.950", "0.800"]


def test_a_bound_says_so_where_it_could_be_taken_for_an_answer() -> None:
    undecided = replace(ONE, advice="undecided", interval=None)
    bound = replace(RESULT, acceptance="bound", prompts=0, drift=(), batches=(undecided, undecided))
    assert "at most: a bound from counts" in bound.lines()[0]
    assert "is at most 1.250 times" in bound.lines()[5]
    assert bound.lines()[5].endswith("what trimming gains takes a trace")
    assert not any("trimming" in line for line in bound.lines()[6:])


def test_what_is_not_advised_is_not_described() -> None:
    dear = replace(ONE, advice="do not trim", chosen=FULL, gain=1.02)
    lines = replace(RESULT, batches=(dear, dear), memory_delta_bytes=0).lines()
    assert lines[6].startswith("MBSU       0.700 there, 0.900 by bytes read")
    assert "1.000*" in "".join(lines[2:4])
    assert (
        "batch 1    do not trim: K = 49,152 at γ = 1, 1.000 times autoregressive, 1.000" in lines[8]
    )


def test_by_parameters_no_rate_is_claimed() -> None:
    alone = replace(ONE, autoregressive=None, margin=0.0)
    lines = replace(RESULT, time="parameters", batches=(alone,)).lines()
    assert "tokens/s" not in lines[0]
    assert "equal within" not in lines[5]


def test_stops() -> None:
    several = tuple(
        replace(ONE, batch=batch, advice=advice)
        for batch, advice in ((1, "trim"), (2, "do not trim"), (8, "do not speculate"))
    )
    assert replace(RESULT, batches=several).trimming_stops_at == 2
    assert replace(RESULT, batches=several).speculation_stops_at == 8
    assert RESULT.trimming_stops_at is RESULT.speculation_stops_at is None
    # what does not pay at one text pays nowhere that was measured
    assert replace(RESULT, batches=several[2:]).trimming_stops_at == 8
