"""The yardstick itself: right samples pass, wrong ones do not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.distributions import FALSE_ALARM, joint_of, p_value

P = np.array([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0], [0.25, 0.25, 0.5]])


def markov(prefix: tuple[int, ...]) -> np.ndarray:
    row: np.ndarray = P[prefix[-1] if prefix else 2]
    return row


def draw(joint: dict[tuple[int, ...], float], count: int, seed: int) -> list[tuple[int, ...]]:
    texts = list(joint)
    chances = np.array([joint[text] for text in texts])
    picked = np.random.default_rng(seed).choice(len(texts), count, p=chances / chances.sum())
    return [texts[index] for index in picked]


def test_a_joint_distribution_is_the_product_along_each_text() -> None:
    joint = joint_of(markov, 3, eos_ids=[1])
    assert sum(joint.values()) == pytest.approx(1)
    assert joint[0, 2, 1] == pytest.approx(0.25 * 0.7 * 0.25)
    assert joint[(1,)] == 0.25
    assert joint[0, 1] == pytest.approx(0.25 * 0.2)
    assert not any(1 in text[:-1] for text in joint)


def test_p_values_of_true_samples_are_even() -> None:
    joint = dict(joint_of(markov, 3))
    values = [p_value(draw(joint, 2000, seed), joint) for seed in range(200)]
    # each tenth of [0, 1] holds 20 of 200 on average; 0 or 50 happen less than once in 1e8
    tenths = np.histogram(values, bins=10, range=(0, 1))[0]
    assert min(tenths) > 0
    assert max(tenths) < 50


def test_a_slightly_wrong_sample_is_found() -> None:
    joint = dict(joint_of(markov, 3))
    tilted = {text: chance * (1.2 if text[1] == 2 else 1.0) for text, chance in joint.items()}
    assert p_value(draw(tilted, 20_000, 0), joint) < FALSE_ALARM
    assert p_value(draw(joint, 20_000, 0), joint) > 1e-3


def test_a_text_that_cannot_be_is_found_at_once() -> None:
    joint = dict(joint_of(markov, 2))
    assert (1, 2) not in joint
    sample = draw(joint, 20_000, 0)
    assert p_value([*sample, (1, 2)], joint) == 0.0


def test_rare_cells_are_pooled() -> None:
    joint = {(0,): 0.998, (1,): 0.0005, (2,): 0.0005, (3,): 0.001}
    seen = Counter({(0,): 998, (1,): 2})
    # three cells expect 2 together, so the common one joins them: nothing is left to compare
    assert p_value(list(seen.elements()), joint) == 1.0
    pooled = {(0,): 0.5, (1,): 0.494, (2,): 0.003, (3,): 0.003}
    sample = [(0,)] * 500 + [(1,)] * 494 + [(2,)] * 6
    # 6 of the pooled cell where 6 are expected
    assert p_value(sample, pooled) == pytest.approx(1.0)
