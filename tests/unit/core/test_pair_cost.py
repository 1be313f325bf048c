from __future__ import annotations

import pytest

from vocabtrim.core.metrics import MetricsError, StepCost
from vocabtrim.core.pair_cost import PairCost

# H = 10, V = 100; a trunk of 500, two bytes a weight; 60 bytes are read once a cycle
TARGET = StepCost(params=10_000, head_params=1000, step_bytes=20_000, head_bytes=2000)
DRAFTER = StepCost(params=2500, head_params=1000, step_bytes=3000, head_bytes=2000, cycle_bytes=60)
COST = PairCost(TARGET, DRAFTER, head_rows=100, shared=False)


def test_costs_follow_the_head() -> None:
    assert COST.c(100) == 0.25
    assert COST.c(40) == pytest.approx((2500 - 600) / 10_000)
    assert COST.c_read(40, 3) == pytest.approx((3000 - 1200 + 20) / 20_000)


@pytest.mark.parametrize(("shared", "freed"), [(False, -1200), (True, 800)])
def test_a_trimmed_head_is_less_of_its_own_or_a_copy_of_the_targets(
    shared: bool, freed: int
) -> None:
    cost = PairCost(TARGET, DRAFTER, 100, shared)
    assert cost.memory_delta(40) == freed
    assert cost.memory_delta(100) == 0


def test_written_is_read() -> None:
    assert PairCost.from_json(COST.to_json()) == COST


@pytest.mark.parametrize(
    "document", [None, {}, COST.to_json() | {"head_rows": 0}, COST.to_json() | {"target": {}}]
)
def test_what_is_none_is_refused(document: object) -> None:
    with pytest.raises(MetricsError, match="cost"):
        PairCost.from_json(document)
