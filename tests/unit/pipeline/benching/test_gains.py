from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vocabtrim.pipeline.benching.gains import Gain, Ratio, Timed, noise_of, ratio_of

Matrix = NDArray[np.float64]


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def timed(tokens: list[list[float]], seconds: list[list[float]]) -> Timed:
    return Timed(np.array(tokens, dtype=np.float64), np.array(seconds, dtype=np.float64))


def simulated(
    rate: float, seed: int, *, spread: float, prompts: int = 20, repeats: int = 3
) -> Timed:
    """Tokens at a rate, with noise of its own in every measurement."""
    draws = np.random.default_rng(seed)
    tokens = draws.integers(20, 100, size=(prompts, repeats)).astype(np.float64)
    noise = np.exp(draws.normal(0.0, spread, size=(prompts, repeats)))
    return Timed(tokens, tokens / rate * noise)


def test_the_rate_is_the_median_of_pooled_repeats() -> None:
    arm = timed([[10, 10, 10], [30, 30, 30]], [[1, 1, 2], [1, 3, 8]])
    assert arm.rates.tolist() == [20.0, 10.0, 4.0]
    assert arm.rate == 10.0
    assert timed([[0.0]], [[0.0]]).rate is None


def test_noise_is_the_largest_difference_of_two_equal_arms() -> None:
    one, twin = timed([[10, 10, 10]], [[1, 1, 1]]), timed([[10, 10, 10]], [[1, 1.25, 0.5]])
    assert noise_of(one, twin) == pytest.approx(0.5)
    assert noise_of(twin, twin) == 0.0
    assert noise_of(timed([[0]], [[0]]), twin.__class__(np.ones((1, 1)), np.ones((1, 1)))) is None


def test_a_ratio_is_of_rates_and_its_interval_holds_it() -> None:
    fast, slow = simulated(60.0, 1, spread=0.05), simulated(50.0, 2, spread=0.05)
    found = ratio_of([(fast, slow)], generator(), resamples=500)
    assert found is not None
    assert fast.rate is not None
    assert slow.rate is not None
    assert found.value == pytest.approx(fast.rate / slow.rate)
    assert found.low is not None
    assert found.high is not None
    assert 1.1 < found.low < found.value < found.high < 1.3
    assert found.is_above_one


def test_several_lengths_make_one_geometric_mean() -> None:
    tokens = [[10.0] * 3] * 2
    unit = timed(tokens, [[1.0] * 3] * 2)
    double, half = timed(tokens, [[0.5] * 3] * 2), timed(tokens, [[2.0] * 3] * 2)
    found = ratio_of([(double, unit), (half, unit)], generator(), resamples=50)
    assert found == Ratio(pytest.approx(1.0), pytest.approx(1.0), pytest.approx(1.0))
    found = ratio_of([(double, unit), (double, half)], generator(), resamples=50)
    assert found is not None
    assert found.value == pytest.approx(8**0.5)


def test_what_hits_both_arms_alike_does_not_widen_the_interval() -> None:
    # a machine that is four times slower in one repeat, and prompts that differ tenfold
    draws = np.random.default_rng(7)
    shape = np.outer(draws.uniform(1, 10, size=12), [1.0, 4.0, 1.0])
    tokens = np.full((12, 3), 50.0)
    found = ratio_of(
        [(Timed(tokens, shape / 1.2), Timed(tokens, shape))], generator(), resamples=300
    )
    assert found is not None
    assert found.low == pytest.approx(1.2)
    assert found.high == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("prompts", "repeats"), [(20, 3), (2, 3), (3, 3), (6, 1), (1, 6), (1, 3), (1, 5)]
)
def test_equal_arms_are_called_faster_rarely(prompts: int, repeats: int) -> None:
    # 95 % intervals of 200 pairs of equal arms: more than 24 above 1 has probability < 1e-8 at
    # the nominal 2.5 %, which the bootstrap over six prompts misses by a factor of three, and
    # 12.5 % of three repeats would be 25
    def arm(seed: int) -> Timed:
        return simulated(50.0, seed, spread=0.3, prompts=prompts, repeats=repeats)

    above = 0
    for seed in range(200):
        pair = arm(2 * seed), arm(2 * seed + 1)
        found = ratio_of([pair], np.random.default_rng(seed), resamples=200)
        assert found is not None
        above += found.is_above_one
    assert above <= 24


def test_too_few_measurements_have_no_interval() -> None:
    ten, one, two = [[10.0] * 5], [[1.0] * 5], [[2.0] * 5]
    pair = timed(ten, one), timed(ten, two)
    assert ratio_of([pair], generator(), resamples=10) == Ratio(2.0)
    assert not Ratio(2.0).is_above_one
    assert ratio_of([(pair[0], timed([[0.0] * 5], [[0.0] * 5]))], generator(), resamples=9) is None
    assert ratio_of([], generator(), resamples=9) is None


@pytest.mark.parametrize(
    ("ratio", "noise", "trim", "says"),
    [
        (Ratio(1.2, 1.1, 1.3), 0.01, True, "trim: t is 1.200 [1.100, 1.300] times as fast as f"),
        (Ratio(1.2, 1.1, 1.3), None, True, "at γ 1, 2"),
        (Ratio(1.2, 0.99, 1.4), 0.01, False, "that interval includes 1"),
        (Ratio(1.0, 0.9, 1.1), 0.0, False, "that interval includes 1"),
        (Ratio(0.8, 0.7, 0.9), 0.01, False, "which is slower"),
        (Ratio(1.02, 1.01, 1.03), 0.05, False, "a gain inside the noise is none"),
        (Ratio(1.5), 0.01, False, "too few measurements"),
    ],
)
def test_only_a_gain_above_interval_and_noise_is_one(
    ratio: Ratio, noise: float | None, trim: bool, says: str
) -> None:
    gain = Gain("t", "f", 1, {1: ratio, 2: ratio}, ratio, noise)
    assert gain.trim is trim
    assert gain.verdict().startswith("trim: " if trim else "do not trim: ")
    assert says in gain.verdict()
