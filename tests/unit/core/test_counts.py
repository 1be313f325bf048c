"""TokenCounts: addition is commutative and associative, and contradictions are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import CalibrationError, TokenizerMismatch

V = 12


def counted(texts: list[list[int]], domain: str | None = None) -> TokenCounts:
    """Count id lists with plain loops: the reference for everything here."""
    counts, documents = np.zeros(V, np.int64), np.zeros(V, np.int64)
    for text in texts:
        for token_id in text:
            counts[token_id] += 1
        for token_id in set(text):
            documents[token_id] += 1
    total = TokenCounts(counts, documents, len(texts), "sha256:a", SpecialIds(eos=(2,)))
    if domain is None:
        return total
    return TokenCounts(counts, documents, len(texts), "sha256:a", total.special, {domain: total})


documents = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=6), max_size=5)
some_counts = st.builds(counted, documents, st.sampled_from([None, "code", "chat"]))


@given(some_counts, some_counts, some_counts)
def test_addition_is_commutative_and_associative(
    a: TokenCounts, b: TokenCounts, c: TokenCounts
) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert hash(a + b) == hash(b + a)


@given(documents, documents)
def test_addition_equals_counting_all_at_once(one: list[list[int]], two: list[list[int]]) -> None:
    assert counted(one) + counted(two) == counted(one + two)
    joined = counted(one, "code") + counted(two, "code")
    assert joined.domains["code"] == counted(one + two)


@given(some_counts)
def test_nothing_is_neutral(a: TokenCounts) -> None:
    assert TokenCounts.empty(V, "sha256:a") + a == a


def test_special_ids_are_united() -> None:
    one = TokenCounts.empty(V, "t", SpecialIds(eos=(3,), added=(5,)))
    two = TokenCounts.empty(V, "t", SpecialIds(eos=(1,), template=(7,), added=(5, 4)))
    assert (one + two).special == SpecialIds(eos=(1, 3), template=(7,), added=(4, 5))


def test_order_breaks_ties_by_documents_then_id() -> None:
    counts = np.array([2, 4, 4, 4, 0, 0], np.int64)
    seen_in = np.array([1, 1, 2, 1, 0, 0], np.int64)
    order = TokenCounts(counts, seen_in, 3, "t").order()
    np.testing.assert_array_equal(order, [2, 1, 3, 0, 4, 5])


def test_coverage_is_the_share_of_tokens() -> None:
    counts = counted([[0, 0, 1], [3]])
    assert counts.coverage(np.array([0])) == 0.5
    assert counts.coverage(np.arange(V)) == 1.0
    assert TokenCounts.empty(V, "t").coverage(np.arange(V)) == 0.0


def test_totals() -> None:
    counts = counted([[0, 0, 1], [3]])
    assert (counts.n_tokens, counts.n_distinct, counts.vocab_size) == (4, 3, V)


def test_other_tokenizers_are_refused() -> None:
    with pytest.raises(TokenizerMismatch) as caught:
        TokenCounts.empty(V, "sha256:aaaa") + TokenCounts.empty(V, "sha256:bbbb")
    assert (caught.value.expected, caught.value.found) == ("sha256:aaaa", "sha256:bbbb")
    with pytest.raises(TokenizerMismatch):
        TokenCounts.empty(V, "t") + TokenCounts.empty(V + 1, "t")


def vector(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("counts", "seen_in", "n", "says"),
    [
        (vector(1, 2), vector(1), 1, "cover 2 ids but documents 1"),
        (vector(-1), vector(-1), 1, "negative"),
        (vector(1), vector(2), 2, "more documents than times"),
        (vector(1), vector(0), 1, "in no document"),
        (vector(3), vector(2), 1, "2 of 1 documents"),
        (np.array([1.0]), vector(1), 1, r"counts must be \[V\] int64"),
        (vector(1), np.array([[1]]), 1, r"documents must be \[V\] int64"),
        (vector(), vector(), 0, r"counts must be \[V\] int64"),
    ],
)
def test_contradictions_are_refused(
    counts: np.ndarray, seen_in: np.ndarray, n: int, says: str
) -> None:
    with pytest.raises(CalibrationError, match=says):
        TokenCounts(counts, seen_in, n, "t")


def test_a_domain_may_not_count_more_than_the_total() -> None:
    part = counted([[0, 0]])
    with pytest.raises(CalibrationError, match="domain code counts more"):
        TokenCounts(part.counts // 2, part.documents, 1, "sha256:a", domains={"code": part})
    with pytest.raises(CalibrationError, match="another tokenizer"):
        TokenCounts(part.counts, part.documents, 1, "sha256:b", domains={"code": part})


def test_vectors_are_read_only_copies() -> None:
    counts = vector(1, 2)
    held = TokenCounts(counts, vector(1, 1), 1, "t")
    counts[0] = 9
    assert held.counts[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        held.documents[0] = 3


def test_what_was_added_can_be_taken_out() -> None:
    one = TokenCounts(np.array([3, 0, 5]), np.array([2, 0, 1]), 4, "sha256:t", SpecialIds((2,)))
    other = TokenCounts(np.array([1, 2, 0]), np.array([1, 1, 0]), 2, "sha256:t")
    assert (one + other).without(other) == one
    assert one.without(one).n_tokens == 0
    with pytest.raises(CalibrationError):
        one.without(other)
    with pytest.raises(TokenizerMismatch):
        one.without(TokenCounts.empty(3, "sha256:other"))
