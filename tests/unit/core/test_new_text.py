"""Expected coverage: exact where nothing is assumed, bounded and near where something is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.core.documents import bursty_documents, counts_of
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.errors import VocabError
from vocabtrim.core.new_text import new_text_coverage, repeated_only
from vocabtrim.core.vocab import DraftVocab

NONE = np.array([], dtype=np.int64)


def top(counts: TokenCounts, rows: int) -> DraftVocab:
    return DraftVocab.from_ids(counts.order()[:rows], counts.vocab_size)


def documents_of(*documents: list[int]) -> list[NDArray[np.int64]]:
    return [np.array(document, dtype=np.int64) for document in documents]


def left_out(documents: list[NDArray[np.int64]], counts: TokenCounts, rows: int) -> float:
    """Coverage of each document by the vocabulary of the others, chosen anew each time."""
    covered = 0
    for document in documents:
        own = counts_of([document], counts.vocab_size)
        others = TokenCounts(
            counts.counts - own.counts,
            counts.documents - own.documents,
            counts.n_documents - 1,
            "t",
        )
        covered += int(np.isin(document, top(others, rows).ids).sum())
    return covered / counts.n_tokens


@pytest.mark.parametrize("rows", [150, 300, 600, 1200, 2400, 4000])
@pytest.mark.parametrize(("again", "within"), [(0.0, 0.012), (0.2, 0.05)])
def test_it_is_near_leaving_documents_out(rows: int, again: float, within: float) -> None:
    documents = bursty_documents(150, 5000, 3, again=again)
    counts = counts_of(documents, 5000)
    found = new_text_coverage(counts, top(counts, rows), kept=NONE)
    truth = left_out(documents, counts, rows)
    assert found.share == pytest.approx(truth, abs=within)
    assert found.low is not None
    # leaving a document out lowers the last row a little too, which the bound does not see
    assert found.low <= truth + 0.002
    # the coverage of the calibration text itself is farther off
    assert counts.coverage(top(counts, rows).ids) - truth > abs(found.share - truth)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(2, 4), st.integers(1, 9))
def test_the_bound_is_the_least_of_all_ways_to_spread_an_id(
    total: int, n_documents: int, row: int
) -> None:
    assume(max(n_documents, row) <= total)
    ways = [
        sum(part for part in parts if total - part > row)
        for parts in product(range(1, total + 1), repeat=n_documents)
        if sum(parts) == total
    ]
    # id 0 is the one in question; id 1, of one document, has the last row; the others are dropped
    counts = TokenCounts(
        np.array([total, row, *[1] * 9]), np.array([n_documents, *[1] * 10]), n_documents, "t"
    )
    found = new_text_coverage(counts, DraftVocab.from_ids([0, 1], 11), kept=NONE)
    assert found.low is not None
    assert found.low * counts.n_tokens == pytest.approx(min(ways))


def test_where_every_id_seen_is_kept_nothing_is_assumed() -> None:
    documents = documents_of([0, 1, 2], [0, 2, 9], [0, 2, 30])
    counts = counts_of(documents, 40)
    for rows in range(5, 41):
        found = new_text_coverage(counts, top(counts, rows), kept=NONE)
        assert found.share == pytest.approx(left_out(documents, counts, rows)), rows
        assert found.low == found.share


def test_the_order_of_the_fill_is_the_callers() -> None:
    counts = counts_of(documents_of([0, 1], [0, 9], [0, 9]), 12)
    vocab = DraftVocab.from_ids([0, 1, 9, 11], 12)
    descending = np.arange(12)[::-1]
    assert new_text_coverage(counts, vocab, kept=NONE).share == 1.0
    found = new_text_coverage(counts, vocab, kept=NONE, fill_order=descending)
    assert found.share == pytest.approx(5 / 6)


def test_kept_ids_are_certain_and_ties_count_as_they_are_kept() -> None:
    documents = documents_of([0, 0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 5])
    counts = counts_of(documents, 8)
    vocab = DraftVocab.from_ids([0, 1, 2], 8)
    # last row: id 2, twice, no other id as often, and one of three documents takes one of the
    # two. Left of ids 0, 1, 2: 8/3, 2, and 1, a tie with no other
    found = new_text_coverage(counts, vocab, kept=NONE)
    assert found.share == pytest.approx(9 / 12)
    assert found.share == pytest.approx(left_out(documents, counts, 3))
    # two of id 0 in one document leave two, which is not more than the last row
    assert found.low == pytest.approx(2 / 12)
    kept = new_text_coverage(counts, vocab, kept=np.array([2, 7]))
    # now the last row that competes is id 1, three times, of which two are left: a tie
    assert kept.share == pytest.approx(9 / 12)
    assert kept.low == pytest.approx(2 / 12)


@pytest.mark.parametrize("n_documents", [2, 9, 400])
def test_documents_that_are_all_alike_cover_one_another(n_documents: int) -> None:
    counts = counts_of(documents_of(*[[0, 0, 1, 2]] * n_documents), 8)
    found = new_text_coverage(counts, DraftVocab.from_ids([0, 1], 8), kept=NONE)
    # id 1 holds its row by a tie with id 2, and either may have it
    assert found.share == pytest.approx((2 + 0.5) / 4)


def test_ids_kept_without_counting_are_covered_as_they_are_counted() -> None:
    counts = counts_of(bursty_documents(20, 300, 4), 300)
    first = DraftVocab.from_ids(np.arange(64), 300)
    found = new_text_coverage(counts, first, kept=first.ids)
    assert found.share == pytest.approx(counts.coverage(first.ids))
    assert found.low == found.share


def test_the_ranking_may_weigh_domains() -> None:
    documents = documents_of([1, 1, 2], [1, 2], [3, 4], [5])
    counts = counts_of(documents, 6, ["a", "a", "b", "c"])
    vocab = DraftVocab.from_ids([1, 2], 6)
    weighted = counts.counts * np.array([1.0, 1.0, 10.0, 1.0, 1.0, 0.0])
    # last row: id 1, 3. Left of id 2: 10 of 20, more than that; of id 1: 1.5
    found = new_text_coverage(counts, vocab, kept=NONE, frequency=weighted)
    assert found.domains["a"].share == pytest.approx(2 / 5)
    assert found.domains["b"].share == 0.0
    assert found.share == pytest.approx(2 / 8)


def test_one_document_gives_no_expectation() -> None:
    counts = counts_of([[1, 2]], 6)
    found = new_text_coverage(counts, DraftVocab.full(6), kept=NONE)
    assert (found.share, found.low) == (None, None)


def test_a_vocabulary_beyond_the_counts_is_refused() -> None:
    counts = counts_of([[1, 2], [1]], 6)
    with pytest.raises(VocabError, match="must lie in"):
        new_text_coverage(counts, DraftVocab.full(9), kept=NONE)


def test_a_ranking_of_what_repeats_is_the_order_of_the_fill() -> None:
    documents = documents_of([0, 1, 2], [0, 2, 9], [0, 2, 30])
    counts = counts_of(documents, 40, ["a", "a", "b"])
    thinned = repeated_only(counts)
    assert np.flatnonzero(thinned.counts).tolist() == [0, 2]
    assert thinned.domains["b"].counts[30] == 0
    assert (thinned.n_documents, thinned.tokenizer) == (3, "t")
    for rows in (5, 11, 12, 30):
        found = new_text_coverage(counts, top(counts, rows), kept=NONE, fill_order=thinned.order())
        assert found == new_text_coverage(counts, top(counts, rows), kept=NONE)


@pytest.mark.filterwarnings("error")
def test_a_domain_of_weight_zero_earns_no_row() -> None:
    counts = counts_of(documents_of([1, 2], [1, 2], [3, 3, 4], [3, 5]), 8, ["a", "a", "b", "b"])
    weighted = counts.counts * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    vocab = DraftVocab.from_ids([1, 3], 8)
    found = new_text_coverage(counts, vocab, kept=NONE, frequency=weighted)
    # the last row is id 3 with nothing, so that id 1 stays and id 3 does not
    assert found.domains["a"].share == pytest.approx(2 / 4)
    assert found.domains["b"].share == 0.0


def test_counts_of_nothing_give_no_expectation() -> None:
    found = new_text_coverage(TokenCounts.empty(6, "t"), DraftVocab.full(6), kept=NONE)
    assert (found.share, found.low) == (None, None)
