"""Estimates from counts equal what leaving documents out gives, and foresee new text."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.core.documents import bursty_documents, counts_of
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.sufficiency import unseen, unseen_share_at

small = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=8), min_size=2, max_size=6)


@settings(deadline=None)
@given(small)
def test_the_share_is_leave_one_document_out(documents: list[list[int]]) -> None:
    missed = sum(
        token not in {other for n, one in enumerate(documents) if n != left for other in one}
        for left, document in enumerate(documents)
        for token in document
    )
    found = unseen(counts_of(documents, 8))
    assert found.share == pytest.approx(missed / sum(map(len, documents)))


@settings(deadline=None)
@given(small, st.data())
def test_the_curve_is_the_mean_over_all_choices(
    documents: list[list[int]], data: st.DataObject
) -> None:
    size = data.draw(st.integers(0, len(documents) - 1))
    shares, tokens = [], sum(map(len, documents))
    for left, document in enumerate(documents):
        others = [one for n, one in enumerate(documents) if n != left]
        missed = [
            sum(token not in {other for one in chosen for other in one} for token in document)
            for chosen in combinations(others, size)
        ]
        shares.append(np.mean(missed))
    assert unseen_share_at(counts_of(documents, 8), size) == pytest.approx(sum(shares) / tokens)


def test_the_curve_ends_are_one_and_leave_one_out() -> None:
    counts = counts_of(bursty_documents(30, 500, 1), 500)
    assert unseen_share_at(counts, 0) == 1.0
    assert unseen_share_at(counts, 29) == pytest.approx(unseen(counts).share)
    curve = [unseen_share_at(counts, size) for size in range(30)]
    assert (np.diff(curve) < 0).all()
    # each further document brings less than the one before
    assert (np.diff(curve, 2) > 0).all()
    with pytest.raises(CalibrationError, match="of 30"):
        unseen_share_at(counts, 30)


def test_it_foresees_new_documents() -> None:
    documents = bursty_documents(1200, 20_000, 2)
    new = np.concatenate(documents[800:])
    for n_documents in (50, 200, 400):
        found = unseen(counts_of(documents[:n_documents], 20_000))
        seen = np.unique(np.concatenate(documents[:n_documents]))
        more = np.unique(np.concatenate(documents[: 2 * n_documents]))
        truth, doubled = (1 - np.isin(new, ids).mean() for ids in (seen, more))
        assert found.share is not None
        assert found.error is not None
        assert found.doubled is not None
        assert found.share == pytest.approx(truth, abs=0.02)
        assert found.doubled == pytest.approx(doubled, abs=0.02)
        assert found.doubled < found.share
        assert 0 < found.error < 0.03


@pytest.mark.parametrize("together", [1, 2])
def test_the_standard_error_is_that_of_repeated_samples(together: int) -> None:
    drawn = [
        unseen(counts_of(_in_groups(bursty_documents(60, 3000, seed), together), 3000 * together))
        for seed in range(100, 140)
    ]
    shares = [one.share for one in drawn if one.share is not None]
    errors = [one.error for one in drawn if one.error is not None]
    # enough for ids that come in pairs, and not much too much for those that come one by
    # one; of 40 samples, a standard deviation is known to about 11 %
    assert 0.8 < np.mean(errors) / np.std(shares, ddof=1) < 1.9


def _in_groups(documents: list[NDArray[np.int64]], size: int) -> list[NDArray[np.int64]]:
    """Put in the place of every word a group of ids that come together."""
    return [(document[:, None] * size + np.arange(size)).reshape(-1) for document in documents]


def test_the_interval_is_two_standard_errors_within_possible_shares() -> None:
    found = unseen(counts_of(bursty_documents(60, 5000, 1), 5000))
    assert found.share is not None
    assert found.error is not None
    assert found.interval == pytest.approx(
        (found.share - 2 * found.error, found.share + 2 * found.error)
    )
    # two documents of one token each say nearly nothing
    assert unseen(counts_of([[1], [2]], 5)).interval == (0.0, 1.0)
    assert unseen(counts_of([[1, 2]], 5)).interval is None


def test_loops_are_told_apart() -> None:
    documents = [[1, 2, 3], [1, 2, *[7] * 100], [1, 2, 4]]
    found = unseen(counts_of(documents, 10))
    assert found.share == pytest.approx(102 / 108)
    assert found.repeats == pytest.approx(80 / 108)
    assert found.error == pytest.approx(2 * np.sqrt(100**2 + 2) / 108)


def test_a_domain_is_judged_against_all_the_data() -> None:
    documents = [[1, 2], [1, 3], [2, 5, 5], [2, 6]]
    found = unseen(counts_of(documents, 10, ["a", "a", "b", "b"]))
    assert found.never_seen == 5
    # id 1 is seen in two documents of a, id 2 in both domains
    assert found.domains["a"].share == pytest.approx(1 / 4)
    assert found.domains["b"].share == pytest.approx(3 / 5)
    assert found.domains["b"].never_seen == 7
    assert found.share == pytest.approx(4 / 9)


def test_too_few_documents_say_nothing() -> None:
    one = unseen(counts_of([[1, 2, 2]], 5))
    assert (one.share, one.error, one.repeats, one.doubled) == (None, None, None, None)
    assert one.never_seen == 3
    nine = [[token, 0] for token in range(1, 10)]
    assert unseen(counts_of(nine[:8], 12)).doubled is None
    assert unseen(counts_of(nine[:8], 12)).share == pytest.approx(0.5)
    assert unseen(counts_of(nine, 12)).doubled == pytest.approx(0.5)
    assert unseen(TokenCounts.empty(5, "t")).never_seen == 5


def test_a_domain_without_a_document_has_no_share() -> None:
    whole = counts_of([[1, 2], [1]], 4)
    counts = TokenCounts(
        whole.counts, whole.documents, 2, "t", domains={"none": TokenCounts.empty(4, "t")}
    )
    assert unseen(counts).domains["none"].share is None


def test_data_that_repeats_itself_leaves_nothing_unseen() -> None:
    found = unseen(counts_of([[1, 2]] * 10, 5))
    assert (found.share, found.doubled) == (0.0, 0.0)


def test_a_curve_that_follows_a_power_law_is_continued_along_it() -> None:
    # ids in one document each: every further document is as new as the first
    new_forever = [[2 * n, 2 * n + 1] for n in range(20)]
    assert unseen(counts_of(new_forever, 64)).doubled == pytest.approx(1.0)
