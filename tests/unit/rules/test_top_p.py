from __future__ import annotations

import numpy as np
import pytest

from tests.unit.rules.evidence import NONE, evidence_of
from vocabtrim.core.errors import VocabError
from vocabtrim.rules.top_p import TopP


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.5, [1]), (0.51, [1, 3]), (0.8, [1, 3]), (0.81, [0, 1, 3]), (1.0, [0, 1, 3]), (1e-9, [1])],
)
def test_takes_the_fewest_ids_that_reach_p(p: float, expected: list[int]) -> None:
    vocab = TopP(p, exact=True).select(evidence_of([2, 5, 0, 3, 0]), NONE)
    np.testing.assert_array_equal(vocab.ids, expected)


def test_a_share_met_exactly_is_met() -> None:
    # 0.7 * 10 and 7 / 10 differ in floating point for some shares; the division decides.
    for seen in range(1, 10):
        vocab = TopP(seen / 10, exact=True).select(evidence_of([1] * 10), NONE)
        assert vocab.size == seen


def test_kept_ids_count_towards_the_share() -> None:
    vocab = TopP(0.5, exact=True).select(evidence_of([2, 5, 0, 3, 0]), np.array([0, 3]))
    np.testing.assert_array_equal(vocab.ids, [0, 3])
    unseen = TopP(0.1, exact=True).select(evidence_of([2, 5, 0, 3, 0]), np.array([2, 4]))
    np.testing.assert_array_equal(unseen.ids, [1, 2, 4])


def test_kept_ids_stay_where_p_is_reached_before_the_last_of_them() -> None:
    vocab = TopP(0.1, exact=True).select(evidence_of([9, 1, 0, 0]), np.array([0, 2, 3]))
    np.testing.assert_array_equal(vocab.ids, [0, 2, 3])


def test_rounds_up_to_64_rows() -> None:
    assert TopP(0.5).select(evidence_of([1] * 200), NONE).size == 128


@pytest.mark.parametrize("p", [0.0, -0.1, 1.01, float("nan")])
def test_refuses_what_is_no_share(p: float) -> None:
    with pytest.raises(VocabError, match="top-p must lie"):
        TopP(p)


def test_refuses_counts_of_nothing() -> None:
    with pytest.raises(VocabError, match="no token was counted"):
        TopP(0.9).select(evidence_of([0, 0]), NONE)


def test_the_last_id_counts() -> None:
    np.testing.assert_array_equal(
        TopP(0.8, exact=True).select(evidence_of([3, 1]), NONE).ids, [0, 1]
    )
    kept = np.array([0])
    np.testing.assert_array_equal(
        TopP(1.0, exact=True).select(evidence_of([0, 5]), kept).ids, [0, 1]
    )
