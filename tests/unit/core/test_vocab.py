"""DraftVocab: the constructor is a proof, and every mapping is another view of the ids."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabtrim.core.errors import VocabError
from vocabtrim.core.vocab import DraftVocab, rounded_rows


@st.composite
def vocabs(draw: st.DrawFn) -> DraftVocab:
    vocab_size = draw(st.integers(1, 400))
    ids = draw(st.sets(st.integers(0, vocab_size - 1), min_size=1))
    return DraftVocab(np.array(sorted(ids)), vocab_size, "sha256:t")


@given(vocabs())
def test_d2t_t2d_and_ids_say_the_same(vocab: DraftVocab) -> None:
    assert vocab.d2t.dtype == np.int64
    assert vocab.d2t.shape == (vocab.size,)
    assert vocab.t2d.dtype == np.bool_
    assert vocab.t2d.shape == (vocab.vocab_size,)
    np.testing.assert_array_equal(vocab.d2t + np.arange(vocab.size), vocab.ids)
    np.testing.assert_array_equal(np.flatnonzero(vocab.t2d), vocab.ids)
    assert DraftVocab.from_d2t(vocab.d2t, vocab.vocab_size, vocab.tokenizer) == vocab
    assert DraftVocab.from_t2d(vocab.t2d, vocab.tokenizer) == vocab
    assert DraftVocab.from_ids(vocab.ids[::-1], vocab.vocab_size, vocab.tokenizer) == vocab


@given(vocabs(), st.data())
def test_rows_in_composes_with_a_reduced_head(held: DraftVocab, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from(held.ids.tolist()), min_size=1))
    narrower = DraftVocab.from_ids(sorted(kept), held.vocab_size)
    rows = narrower.rows_in(held)
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(held.ids[rows], narrower.ids)


def test_rows_in_a_full_head_are_the_ids() -> None:
    vocab = DraftVocab(np.array([1, 4, 7]), 8)
    np.testing.assert_array_equal(vocab.rows_in(DraftVocab.full(8)), [1, 4, 7])


@pytest.mark.parametrize("missing", [[0, 4], [4, 6], [4, 5], [5]])
def test_rows_in_refuses_an_id_without_a_row(missing: list[int]) -> None:
    held = DraftVocab(np.array([2, 4, 7]), 9)
    first = next(i for i in missing if i not in (2, 4, 7))
    with pytest.raises(VocabError, match=f"first missing: {first}"):
        DraftVocab(np.array(missing), 9).rows_in(held)


def test_rows_in_refuses_an_id_above_all_rows() -> None:
    with pytest.raises(VocabError, match=r"1 of 2 ids have no row.*holds 3 \(first missing: 8\)"):
        DraftVocab(np.array([7, 8]), 9).rows_in(DraftVocab(np.array([2, 4, 7]), 9))


def test_rows_in_refuses_another_target() -> None:
    with pytest.raises(VocabError, match="over 9 and 8"):
        DraftVocab(np.array([2]), 9).rows_in(DraftVocab.full(8))


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([], "vector of integers|at least one"),
        ([1, 1], "id 1 at 0 is followed by 1"),
        ([0, 3, 2], "id 3 at 1 is followed by 2"),
        ([0, 1, 4, 4], "id 4 at 2 is followed by 4"),
        ([-1, 2], r"in \[0, 10\), found -1 to 2"),
        ([2, 10], r"in \[0, 10\), found 2 to 10"),
        ([[1, 2]], "vector of integers"),
        ([1.0, 2.0], "vector of integers"),
        ([True, False], "vector of integers"),
    ],
)
def test_constructor_refuses(ids: list[object], says: str) -> None:
    with pytest.raises(VocabError, match=says):
        DraftVocab(np.array(ids), 10)


def test_constructor_refuses_no_ids_of_integer_type() -> None:
    with pytest.raises(VocabError, match="at least one id"):
        DraftVocab(np.array([], dtype=np.int64), 10)


def test_bounds_are_inclusive_of_zero_and_the_last_id() -> None:
    assert DraftVocab(np.array([0, 9]), 10).size == 2
    assert DraftVocab(np.array([3]), 10).size == 1


def test_unsigned_and_narrow_ids_become_int64() -> None:
    for dtype in (np.uint16, np.int32, np.uint64):
        assert DraftVocab(np.array([2, 5], dtype=dtype), 10).ids.dtype == np.int64


def test_ids_are_a_read_only_copy() -> None:
    given_ids = np.array([1, 2, 3])
    vocab = DraftVocab(given_ids, 5)
    given_ids[0] = 0
    assert vocab.ids[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        vocab.ids[0] = 0


def test_from_ids_sorts_but_refuses_duplicates() -> None:
    np.testing.assert_array_equal(DraftVocab.from_ids([5, 1, 3], 6).ids, [1, 3, 5])
    assert DraftVocab.from_ids([5, 1], 6, "t").tokenizer == "t"
    with pytest.raises(VocabError, match="duplicates"):
        DraftVocab.from_ids([5, 1, 5], 6)


def test_from_d2t_refuses_frequency_order() -> None:
    # ids [7, 2] as offsets [7, 1]: sorting them here would part them from their rows
    with pytest.raises(VocabError, match="ascend"):
        DraftVocab.from_d2t(np.array([7, 1]), 10)


def test_from_t2d_refuses_what_is_no_mask() -> None:
    with pytest.raises(VocabError, match="t2d must be"):
        DraftVocab.from_t2d(np.array([0, 1, 1]))
    with pytest.raises(VocabError, match="t2d must be"):
        DraftVocab.from_t2d(np.zeros((2, 2), dtype=np.bool_))
    with pytest.raises(VocabError, match="at least one id"):
        DraftVocab.from_t2d(np.zeros(4, dtype=np.bool_))


def test_full_holds_every_id() -> None:
    full = DraftVocab.full(5, "t")
    assert full.is_full
    assert full.tokenizer == "t"
    np.testing.assert_array_equal(full.ids, np.arange(5))
    np.testing.assert_array_equal(full.d2t, np.zeros(5))
    assert not DraftVocab(np.arange(4), 5).is_full


def test_over_moves_to_a_padded_target() -> None:
    vocab = DraftVocab(np.array([1, 4]), 5, "t")
    padded = vocab.over(8)
    assert (padded.vocab_size, padded.tokenizer, padded.t2d.size) == (8, "t", 8)
    np.testing.assert_array_equal(padded.ids, vocab.ids)
    with pytest.raises(VocabError, match="found 1 to 4"):
        vocab.over(4)


def test_equality_sees_ids_size_and_tokenizer() -> None:
    vocab = DraftVocab(np.array([1, 4]), 5, "t")
    assert vocab == DraftVocab(np.array([1, 4]), 5, "t")
    assert hash(vocab) == hash(DraftVocab(np.array([1, 4]), 5, "t"))
    assert vocab != DraftVocab(np.array([1, 3]), 5, "t")
    assert vocab != DraftVocab(np.array([1, 4]), 6, "t")
    assert vocab != DraftVocab(np.array([1, 4]), 5, "u")
    assert (vocab == "something else") is False


def test_a_vocabulary_does_not_change() -> None:
    vocab = DraftVocab(np.array([1, 4]), 5)
    with pytest.raises(FrozenInstanceError):
        vocab.vocab_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rows", "vocab_size", "expected"),
    [(1, 1000, 64), (64, 1000, 64), (65, 1000, 128), (990, 1000, 1000), (1000, 1000, 1000)],
)
def test_rows_round_up_to_64_but_not_past_V(rows: int, vocab_size: int, expected: int) -> None:
    assert rounded_rows(rows, vocab_size) == expected
