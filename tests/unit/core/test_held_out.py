"""Held-out coverage: ratios of sums, intervals over documents, worst domain first."""

from __future__ import annotations

import numpy as np
import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.held_out import MOST_RESAMPLED, covered_tokens, held_out_coverage
from vocabtrim.core.vocab import DraftVocab


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_tokens_are_counted_by_document() -> None:
    documents = [np.array(ids, dtype=np.int64) for ids in ([1, 2, 9], [], [9, 9], [1])]
    pairs = covered_tokens(documents, DraftVocab.from_ids([1, 2], 10))
    np.testing.assert_array_equal(pairs, [[3, 2], [0, 0], [2, 0], [1, 1]])
    assert covered_tokens([], DraftVocab.full(4)).shape == (0, 2)
    with pytest.raises(CalibrationError, match="over 5 ids"):
        covered_tokens(documents, DraftVocab.full(5))


def test_coverage_is_pooled_over_tokens() -> None:
    found = held_out_coverage(np.array([[90, 90], [10, 0], [0, 0]]), rng())
    assert found.share == 0.9
    assert (found.n_documents, found.n_tokens) == (2, 100)
    assert found.low == 0.0
    assert found.high == 1.0


def test_the_worst_domain_comes_first() -> None:
    pairs = np.array([[10, 9], [10, 5], [10, 8], [10, 4], [10, 10], [0, 0]])
    found = held_out_coverage(pairs, rng(), domains=["a", "b", "a", "b", None, "nothing"])
    assert list(found.domains) == ["b", "a"]
    assert found.domains["b"].share == pytest.approx(0.45)
    assert found.domains["a"].n_documents == 2
    assert found.n_tokens == 50


def test_a_single_document_has_no_interval() -> None:
    found = held_out_coverage(np.array([[10, 9]]), rng())
    assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize("n_documents", [40, 3 * MOST_RESAMPLED])
def test_the_interval_is_as_wide_as_its_documents_differ(n_documents: int) -> None:
    tokens = np.full(n_documents, 100)
    covered = rng(1).binomial(10, 0.9, n_documents) * 10
    found = held_out_coverage(np.stack([tokens, covered], axis=1), rng(2))
    assert found.low is not None
    assert found.high is not None
    # one document's coverage has standard deviation sqrt(0.9 * 0.1 / 10)
    expected = 2 * 1.96 * np.sqrt(0.009 / n_documents)
    assert found.high - found.low == pytest.approx(expected, rel=0.35)
    assert found.low < found.share < found.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, hits, trials = rng(3), 0, 200
    for _ in range(trials):
        tokens = generator.integers(50, 400, 60)
        # coverage of a document varies far more than its tokens alone would
        covered = (tokens * generator.beta(18, 2, 60)).astype(np.int64)
        found = held_out_coverage(np.stack([tokens, covered], axis=1), generator, resamples=400)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.9 - 0.5 / 225 <= found.high
    # 95 % asked; below 86 % of 200 by chance once in a million where 94 % is true
    assert hits >= 172


def test_equal_seeds_give_equal_intervals() -> None:
    pairs = np.array([[10, 9], [20, 11], [5, 5], [30, 22]])
    assert held_out_coverage(pairs, rng(5)) == held_out_coverage(pairs, rng(5))


@pytest.mark.parametrize(
    ("pairs", "domains", "says"),
    [
        ([[0, 0]], None, "no held-out token"),
        ([[3, 4]], None, "more covered"),
        ([[3, -1]], None, "token counts"),
        ([[3, 1]], ["a", "b"], "2 domains were given for 1"),
    ],
)
def test_impossible_numbers_are_refused(
    pairs: list[list[int]], domains: list[str | None] | None, says: str
) -> None:
    with pytest.raises(CalibrationError, match=says):
        held_out_coverage(np.array(pairs), rng(), domains=domains)
