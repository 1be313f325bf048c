"""Ranking, kept ids, fill and the command-line form: what all rules share."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rules.evidence import NONE
from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import PluginError, TokenizerMismatch, VocabError
from vocabtrim.rules.base import (
    RULES,
    Evidence,
    SelectionRule,
    by_counts,
    parse_rule,
    rows_asked,
    take,
    usage,
)
from vocabtrim.rules.first import First
from vocabtrim.rules.min_count import MinCount
from vocabtrim.rules.top_k import TopK
from vocabtrim.rules.top_p import TopP


def counts_of(values: list[int], *, added: tuple[int, ...] = (), name: str = "t") -> TokenCounts:
    vector = np.array(values, dtype=np.int64)
    return TokenCounts(vector, (vector > 0).astype(np.int64), 1, name, SpecialIds(added=added))


vectors = st.lists(st.integers(0, 5), min_size=5, max_size=200).filter(any)
kept_ids = st.sets(st.integers(0, 4), max_size=3).map(
    lambda ids: np.array(sorted(ids), dtype=np.int64)
)
a_rule = st.one_of(
    st.builds(TopK, st.integers(4, 250), exact=st.booleans()),
    st.builds(First, st.integers(4, 250), exact=st.booleans()),
    st.builds(TopP, st.floats(0.01, 1.0), exact=st.booleans()),
    st.builds(MinCount, st.integers(1, 6), exact=st.booleans()),
)


@given(vectors, kept_ids, a_rule)
def test_every_rule_keeps_the_kept_and_gives_the_rows_asked_for(
    values: list[int], kept: np.ndarray, rule: SelectionRule
) -> None:
    evidence = Evidence(counts_of(values))
    V = len(values)
    try:
        vocab = rule.select(evidence, kept)
    except VocabError:
        asked = getattr(rule, "k", None)
        nothing_reaches = isinstance(rule, MinCount) and max(values) < rule.count and not kept.size
        assert nothing_reaches or (asked is not None and asked > V)
        return
    assert set(kept.tolist()) <= set(vocab.ids.tolist())
    assert vocab.vocab_size == V
    if isinstance(rule, TopK | First):
        assert vocab.size == (rule.k if rule.exact else min(-(-rule.k // 64) * 64, V))
    elif not rule.exact:
        assert vocab.size % 64 == 0 or vocab.is_full


@given(vectors, st.data())
def test_rules_follow_a_renaming_of_ids_with_distinct_counts(
    values: list[int], data: st.DataObject
) -> None:
    # Distinct counts leave nothing to tie-breaking, so permuting ids permutes the choice.
    distinct = np.array(values) * len(values) + np.arange(len(values)) + 1
    permutation = np.array(data.draw(st.permutations(range(len(values)))))
    k = data.draw(st.integers(1, len(values)))
    plain = TopK(k, exact=True).select(Evidence(counts_of(distinct.tolist())), NONE)
    moved = np.zeros_like(distinct)
    moved[permutation] = distinct
    renamed = TopK(k, exact=True).select(Evidence(counts_of(moved.tolist())), NONE)
    assert set(permutation[plain.ids].tolist()) == set(renamed.ids.tolist())


@given(st.lists(st.lists(st.integers(0, 30), min_size=1), min_size=1), st.randoms())
def test_the_order_of_the_documents_does_not_matter(texts: list[list[int]], random: object) -> None:
    def counted(order: list[list[int]]) -> TokenCounts:
        total = TokenCounts.empty(31, "t")
        for text in order:
            vector = np.bincount(text, minlength=31).astype(np.int64)
            total += TokenCounts(vector, (vector > 0).astype(np.int64), 1, "t")
        return total

    shuffled = list(texts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = Evidence(counted(texts)), Evidence(counted(shuffled))
    for rule in (TopK(7, exact=True), TopP(0.6, exact=True), MinCount(2, exact=True)):
        try:
            chosen = rule.select(one, NONE)
        except VocabError:
            continue
        assert chosen == rule.select(two, NONE)


def test_ranking_is_a_permutation_in_the_stated_order() -> None:
    #        0  1  2  3  4  5  6  7
    counts = [0, 5, 0, 5, 9, 0, 0, 0]
    documents = np.array([0, 1, 0, 2, 1, 0, 0, 0], dtype=np.int64)
    calibration = TokenCounts(
        np.array(counts, dtype=np.int64), documents, 2, "t", SpecialIds(added=(0, 5))
    )
    base = counts_of([0, 0, 0, 0, 0, 0, 7, 0])
    ranking = Evidence(calibration, base).ranking(np.array([7]))
    # kept 7; seen 4, then 3 before 1 by documents; base 6; ordinary 2; added 0 and 5
    np.testing.assert_array_equal(ranking, [7, 4, 3, 1, 6, 2, 0, 5])


def test_added_tokens_that_were_seen_rank_like_others() -> None:
    ranking = Evidence(counts_of([3, 1, 9], added=(0, 2))).ranking(NONE)
    np.testing.assert_array_equal(ranking, [2, 0, 1])


def test_a_seen_added_token_ties_with_an_ordinary_one_by_id() -> None:
    for base in (None, counts_of([5, 5]), counts_of([0, 0])):
        ranking = Evidence(counts_of([3, 3], added=(0,)), base).ranking(NONE)
        np.testing.assert_array_equal(ranking, [0, 1])


def test_an_added_token_that_only_the_base_saw_is_no_placeholder() -> None:
    evidence = Evidence(counts_of([0, 3, 0], added=(0,)), counts_of([4, 0, 4]))
    np.testing.assert_array_equal(evidence.ranking(NONE), [1, 0, 2])


def test_evidence_does_not_change_and_compares_by_value() -> None:
    evidence = Evidence(counts_of([1, 2]))
    assert evidence == Evidence(counts_of([1, 2]))
    with pytest.raises(FrozenInstanceError):
        evidence.base = None  # type: ignore[misc]


def test_base_orders_only_the_fill() -> None:
    evidence = Evidence(counts_of([1, 0, 0, 0]), counts_of([0, 1, 8, 0]))
    np.testing.assert_array_equal(evidence.ranking(NONE), [0, 2, 1, 3])


def test_base_ties_go_by_documents() -> None:
    base = TokenCounts(np.array([0, 4, 4]), np.array([0, 1, 2]), 2, "t")
    np.testing.assert_array_equal(Evidence(counts_of([1, 0, 0]), base).ranking(NONE), [0, 2, 1])


def test_base_of_another_tokenizer_is_refused() -> None:
    with pytest.raises(TokenizerMismatch, match="base counts"):
        Evidence(counts_of([1]), counts_of([1], name="u"))


def test_weights_scale_a_domain() -> None:
    code = counts_of([4, 0, 0])
    total = TokenCounts(np.array([4, 3, 0]), np.array([1, 1, 0]), 2, "t", domains={"code": code})
    assert Evidence(total).frequency.tolist() == [4, 3, 0]
    assert Evidence(total, weights={"code": 0.5}).frequency.tolist() == [2, 3, 0]
    assert Evidence(total, weights={"code": 0}).frequency.tolist() == [0, 3, 0]
    with pytest.raises(PluginError, match="no domain 'chat' to weight; the counts have: code"):
        Evidence(total, weights={"chat": 1})
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(PluginError, match="must be 0 or more"):
            Evidence(total, weights={"code": wrong})


def test_more_kept_ids_than_rows_names_the_smallest_k() -> None:
    evidence = Evidence(counts_of([1] * 10))
    kept = np.array([7, 8, 9])
    assert take(evidence.ranking(kept), 3, kept, evidence).ids.tolist() == [7, 8, 9]
    with pytest.raises(VocabError, match=r"K = 2 is smaller than the 3 .* smallest K is 3"):
        take(evidence.ranking(kept), 2, kept, evidence)


@pytest.mark.parametrize("k", [0, -1, 101])
def test_impossible_k_is_refused(k: int) -> None:
    with pytest.raises(VocabError, match=f"between 1 and the 100 ids there are, found {k}"):
        rows_asked(k, 100, exact=True)


def test_k_bounds_are_inclusive() -> None:
    assert rows_asked(1, 100, exact=True) == 1
    assert rows_asked(100, 100, exact=True) == 100
    assert rows_asked(1, 100, exact=False) == 64


def test_which_rules_follow_the_counts() -> None:
    assert not by_counts(First(3))
    assert all(by_counts(rule) for rule in (TopK(3), TopP(0.5), MinCount(2)))


def test_rules_read_from_the_command_line() -> None:
    assert parse_rule("top_k:k=4096") == TopK(4096)
    assert parse_rule("top_k:k=100,exact=true") == TopK(100, exact=True)
    assert parse_rule("top_k:k=100,exact=False") == TopK(100, exact=False)
    assert parse_rule("top_p:p=0.95") == TopP(0.95)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("top_q:k=1", "no selection rule is called 'top_q'; there are acceptance, first"),
        ("base", "no selection rule is called 'base'"),
        ("top_k", "needs k; it is used as top_k:k=INT,exact=False"),
        ("top_k:k=many", "k is a int, found 'many'"),
        ("top_k:q=1", "cannot read 'q=1'"),
        ("top_k:k", "cannot read 'k'"),
        ("top_k:k=1,exact=perhaps", "exact is true or false, found 'perhaps'"),
    ],
)
def test_unreadable_rules_say_how_they_are_used(text: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        parse_rule(text)


def test_every_registered_rule_has_a_usage_line() -> None:
    for name in RULES.names():
        assert usage(name).startswith(f"{name}:")
