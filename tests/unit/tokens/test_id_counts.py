"""Ids to counts: equal to a plain loop, and sums that do not know their order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vocabtrim.core.counts import SpecialIds
from vocabtrim.tokens import id_counts as module
from vocabtrim.tokens.id_counts import TOTAL, RunningCounts, SparseBatch, SparseCounts, count_ids

V = 12
DOCUMENTS = st.lists(st.lists(st.integers(0, V - 1), max_size=20), max_size=8)


def looped(documents: list[list[int]], cap: int | None = None) -> dict[int, tuple[int, int]]:
    """Return id to occurrences and documents, with nothing but dictionaries."""
    counts: Counter[int] = Counter()
    frequency: Counter[int] = Counter()
    for document in documents:
        for token_id, times in Counter(document).items():
            counts[token_id] += times if cap is None else min(times, cap)
            frequency[token_id] += 1
    return {one: (counts[one], frequency[one]) for one in sorted(counts)}


def flat(documents: list[list[int]], kind: type = np.int64) -> tuple[NDArray[np.int64], ...]:
    ids = [token_id for document in documents for token_id in document]
    return np.array(ids, dtype=kind), np.array([len(one) for one in documents], dtype=np.int64)


def as_dictionary(counts: SparseCounts) -> dict[int, tuple[int, int]]:
    columns = (counts.ids.tolist(), counts.counts.tolist(), counts.documents.tolist())
    return {one: (times, documents) for one, times, documents in zip(*columns, strict=True)}


@settings(deadline=None, max_examples=300)
@given(
    DOCUMENTS,
    st.none() | st.integers(1, 5),
    st.sampled_from([np.int64, np.uint32]),
    st.integers(1, 40),
    st.sampled_from([1, 4, 12]),
)
def test_ids_are_counted_as_by_a_plain_loop(
    documents: list[list[int]], cap: int | None, kind: type, part: int, long: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_IDS", part)
        patch.setattr(module, "LONG", long)
        check(documents, cap, kind)


def check(documents: list[list[int]], cap: int | None, kind: type) -> None:
    found = count_ids(*flat(documents, kind), V, cap_per_document=cap)
    assert as_dictionary(found) == looped(documents, cap)
    assert found.ids.dtype == found.counts.dtype == found.documents.dtype == np.int64
    assert found.n_documents == sum(1 for document in documents if document)


@pytest.mark.parametrize("cap", [None, 2])
def test_more_pairs_than_a_number_holds_are_counted_in_parts(
    monkeypatch: pytest.MonkeyPatch, cap: int | None
) -> None:
    documents = [[one % V, 3, 3, 3] if one % 5 else [] for one in range(50)]
    monkeypatch.setattr(module, "PAIRS", 7 * V)
    found = count_ids(*flat(documents), V, cap_per_document=cap)
    assert as_dictionary(found) == looped(documents, cap)


def test_the_last_pair_of_a_part_still_fits() -> None:
    vocab_size = 1 << 28
    assert module.PAIRS // vocab_size == 16
    documents = [[vocab_size - 1, 0]] * 16
    ids, lengths = flat(documents)
    owners, times = module._pairs(ids, lengths, vocab_size)
    assert owners.tolist() == [0, vocab_size - 1] * 16
    assert times.tolist() == [1] * 32


def test_a_document_that_repeats_one_id() -> None:
    documents = [[3] * 10_000, [3, 5]]
    assert as_dictionary(count_ids(*flat(documents), V)) == {3: (10_001, 2), 5: (1, 1)}
    capped = count_ids(*flat(documents), V, cap_per_document=7)
    assert as_dictionary(capped) == {3: (8, 2), 5: (1, 1)}


@settings(deadline=None)
@given(st.lists(st.tuples(DOCUMENTS, st.frozensets(st.sampled_from("ab"))), max_size=5))
def test_sums_are_those_of_all_documents_in_any_order(
    batches: list[tuple[list[list[int]], frozenset[str]]],
) -> None:
    made = [SparseBatch({group: count_ids(*flat(documents), V)}) for documents, group in batches]
    sums = RunningCounts(V, "ab")
    for batch in made:
        sums.add(batch)
    backwards = RunningCounts(V, "ab")
    for batch in reversed(made):
        backwards.add(batch)
    total = sums.total("t", SpecialIds(eos=(1,)))
    assert total == backwards.total("t", SpecialIds(eos=(1,)))
    for name, part in ((TOTAL, total), *total.domains.items()):
        chosen = [
            document
            for documents, group in batches
            for document in documents
            if name == TOTAL or name in group
        ]
        found = {int(one): (int(part.counts[one]), int(part.documents[one])) for one in range(V)}
        assert {one: pair for one, pair in found.items() if pair != (0, 0)} == looped(chosen)
        assert part.n_documents == sum(1 for document in chosen if document)


def test_domains_are_there_without_documents_and_appear_where_seen() -> None:
    sums = RunningCounts(V, ["empty"])
    sums.add(SparseBatch({frozenset({"new"}): count_ids(*flat([[1, 1]]), V)}))
    total = sums.total("t", SpecialIds())
    assert {name: part.n_tokens for name, part in total.domains.items()} == {"empty": 0, "new": 2}
