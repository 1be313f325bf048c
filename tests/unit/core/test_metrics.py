"""Metrics reproduce the source's table, and the conventions hold on worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabtrim.core.metrics import (
    AcceptCounts,
    MetricsError,
    StepCost,
    block_efficiency_interval,
    mbsu,
    relative_bytes,
    relative_cost,
    tied_parameters,
    untied_parameters,
)

# Llama-3.2-3B: hidden 3072, MLP 8192, 24 heads and 8 KV heads of 128, 28 layers.
H, MLP, V = 3072, 8192, 128_256
LAYER = 2 * H * H + 2 * H * 8 * 128 + 3 * H * MLP
TARGET = 28 * LAYER + V * H
EAGLE_TRUNK = LAYER + 2 * H * H  # one layer and the fusion of embedding and feature


@pytest.mark.parametrize(
    ("rows", "tau", "c", "derived", "published", "error"),
    [
        (128_256, 3.63, 0.2825, 1.704, 1.70, 0.003),
        (65_536, 3.54, 0.2225, 1.873, 1.83, 0.025),
        (32_975, 3.43, 0.1914, 1.942, 1.95, 0.005),
        (16_384, 3.25, 0.1755, 1.909, 1.90, 0.006),
    ],
)
def test_mbsu_reproduces_the_published_table(
    rows: int, tau: float, c: float, derived: float, published: float, error: float
) -> None:
    drafter = StepCost(untied_parameters(EAGLE_TRUNK, H, V, rows), rows * H, 1, 1)
    target = StepCost(TARGET, V * H, 1, 1)
    cost = relative_cost(drafter, target)
    assert cost == pytest.approx(c, abs=5e-5)
    assert mbsu(tau, cost, 4) == pytest.approx(derived, abs=1e-3)
    assert mbsu(tau, cost, 4) == pytest.approx(published, rel=error)


def test_gamma_4_is_the_only_depth_that_fits_the_table() -> None:
    table = [
        (128_256, 3.63, 1.70),
        (65_536, 3.54, 1.83),
        (32_975, 3.43, 1.95),
        (16_384, 3.25, 1.90),
    ]

    def worst(gamma: int) -> float:
        costs = [untied_parameters(EAGLE_TRUNK, H, V, rows) / TARGET for rows, _, _ in table]
        return max(
            abs(mbsu(tau, c, gamma) / m - 1) for c, (_, tau, m) in zip(costs, table, strict=True)
        )

    assert min(range(1, 9), key=worst) == 4
    assert worst(4) < 0.025 < min(worst(3), worst(5))


def test_the_best_k_of_the_table_is_32k() -> None:
    table = {128_256: 3.63, 65_536: 3.54, 32_975: 3.43, 16_384: 3.25}
    gain = {
        k: mbsu(tau, untied_parameters(EAGLE_TRUNK, H, V, k) / TARGET, 4)
        for k, tau in table.items()
    }
    assert max(gain, key=gain.__getitem__) == 32_975


def test_the_independent_drafters_rows_imply_a_small_loss_of_tau() -> None:
    # 314M parameters, head 131.3M -> 33.8M of width 1024; MBSU 2.91 -> 3.10
    hidden, rows = 1024, 33_008
    trunk = 314_000_000 - V * hidden
    full = tied_parameters(trunk, hidden, V) / TARGET
    trimmed = tied_parameters(trunk, hidden, rows) / TARGET
    assert V * hidden == pytest.approx(131.3e6, rel=1e-3)
    assert rows * hidden == pytest.approx(33.8e6, rel=1e-3)
    tau_full, tau_trimmed = 2.91 * (4 * full + 1), 3.10 * (4 * trimmed + 1)
    assert tau_trimmed / tau_full == pytest.approx(0.972, abs=1e-3)


def test_a_cycle_accepting_all_emits_a_bonus_token() -> None:
    counts = AcceptCounts.of_cycles(3, [(3, 3, 4), (3, 0, 1), (3, 1, 2)])
    assert counts.cycles == 3
    assert counts.block_efficiency == pytest.approx(7 / 3)
    assert counts.acceptance_rate == pytest.approx(4 / 9)
    assert counts.acceptance_by_position == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_array_equal(counts.accepted, [1, 1, 0, 1])


def test_positions_divide_by_the_cycles_that_drafted_there() -> None:
    # the last cycles of a generation draft less: 3, then 1, then 0
    counts = AcceptCounts.of_cycles(3, [(3, 2, 3), (1, 1, 2), (0, 0, 1)])
    assert counts.acceptance_by_position == pytest.approx([1.0, 1.0, 0.0])
    assert counts.n_drafted == 4
    assert counts.block_efficiency == 2.0


def test_an_accepted_eos_ends_its_cycle_without_a_bonus() -> None:
    counts = AcceptCounts.of_cycles(4, [(2, 2, 2)])
    assert counts.block_efficiency == 2.0
    assert counts.acceptance_by_position == [1.0, 1.0, None, None]


def test_nothing_decoded_has_no_efficiency() -> None:
    nothing = AcceptCounts.zero(2)
    assert nothing.block_efficiency is None
    assert nothing.acceptance_rate is None
    assert nothing.acceptance_by_position == [None, None]
    assert AcceptCounts.of_cycles(0, [(0, 0, 1)] * 5).block_efficiency == 1.0


@pytest.mark.parametrize(
    ("accepted", "drafted", "tokens", "says"),
    [
        ([1, 0], [1, 0, 0], 1, "gamma 1 and 2"),
        ([1, 0], [2, 0], 1, "different numbers of cycles"),
        ([0, 1], [1, 0], 2, "more drafts were accepted"),
        ([0, 2], [0, 2], 1, "cannot have emitted 1"),
        ([0, 2], [0, 2], 5, "cannot have emitted 5"),
        ([-1, 2], [0, 1], 2, "no vector of counts"),
        ([], [], 0, "no vector of counts"),
    ],
)
def test_impossible_counts_are_refused(
    accepted: list[int], drafted: list[int], tokens: int, says: str
) -> None:
    with pytest.raises(MetricsError, match=says):
        AcceptCounts(np.array(accepted), np.array(drafted), tokens)


cycle = st.integers(0, 4).flatmap(
    lambda drafted: st.integers(0, drafted).map(lambda accepted: (drafted, accepted, accepted + 1))
)


@given(st.lists(cycle), st.lists(cycle))
def test_pooling_equals_counting_together(
    one: list[tuple[int, int, int]], two: list[tuple[int, int, int]]
) -> None:
    pooled = AcceptCounts.of_cycles(4, one) + AcceptCounts.of_cycles(4, two)
    assert pooled == AcceptCounts.of_cycles(4, one + two)
    assert hash(pooled) == hash(AcceptCounts.of_cycles(4, two + one))


def test_runs_of_different_depth_are_not_pooled() -> None:
    with pytest.raises(MetricsError, match="gamma 1 and 2"):
        AcceptCounts.zero(1) + AcceptCounts.zero(2)


def test_bytes_read_once_a_cycle_are_spread_over_the_draft() -> None:
    drafter = StepCost(params=10, head_params=4, step_bytes=100, head_bytes=60, cycle_bytes=40)
    target = StepCost(params=100, head_params=4, step_bytes=1000, head_bytes=60)
    assert drafter.bytes_per_draft(4) == 110
    assert drafter.bytes_per_draft(0) == 140
    assert relative_bytes(drafter, target, 4) == pytest.approx(0.11)
    assert drafter.head_share(4) == pytest.approx(60 / 110)
    assert mbsu(2.0, 0.11, 0) == 2.0


def test_a_head_of_fewer_rows_costs_less_and_everything_else_the_same() -> None:
    # 8 rows of width 4 with a bias, two bytes a weight, beside a trunk of 100 weights
    full = StepCost(params=140, head_params=40, step_bytes=300, head_bytes=80, cycle_bytes=12)
    assert full.with_head_rows(3, 8) == StepCost(
        params=115, head_params=15, step_bytes=250, head_bytes=30, cycle_bytes=12
    )
    assert full.with_head_rows(8, 8) == full
    assert full.with_head_rows(3, 8).with_head_rows(1, 3) == full.with_head_rows(1, 8)
    assert full.with_head_rows(3, 8).with_head_rows(8, 3) == full


def test_rows_of_a_quantised_head_need_not_be_whole_bytes() -> None:
    # 3 rows of 4.5 bits a weight: 9 bytes a row of 16
    full = StepCost(params=148, head_params=48, step_bytes=127, head_bytes=27)
    assert full.with_head_rows(1, 3).head_bytes == 9
    odd = StepCost(params=13, head_params=3, step_bytes=20, head_bytes=10)
    assert odd.with_head_rows(2, 3) == StepCost(
        params=12, head_params=2, step_bytes=17, head_bytes=7
    )


def test_interval_holds_the_pooled_value_and_narrows() -> None:
    generator = np.random.default_rng(0)
    prompts = [
        AcceptCounts.of_cycles(2, [(2, int(a), int(a) + 1) for a in generator.integers(0, 3, 30)])
        for _ in range(40)
    ]
    pooled = sum(prompts[1:], prompts[0]).block_efficiency
    assert pooled is not None
    low, high = block_efficiency_interval(prompts, np.random.default_rng(1))
    assert low < pooled < high
    narrow = block_efficiency_interval(prompts, np.random.default_rng(1), confidence=0.5)
    assert low < narrow[0] < narrow[1] < high
    wide = block_efficiency_interval(prompts[:5], np.random.default_rng(1))
    assert wide[1] - wide[0] > high - low


def test_interval_needs_a_cycle() -> None:
    with pytest.raises(MetricsError, match="no prompt has a cycle"):
        block_efficiency_interval([AcceptCounts.zero(2)], np.random.default_rng(0))
