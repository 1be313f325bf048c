"""A vector is read as what it provably is, and refused where two readings stand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.errors import VocabError
from vocabtrim.tensors.id_vectors import read_list, read_vector, without_repeats

V = 1000


def vector(*numbers: int, dtype: str = "int64") -> np.ndarray:
    return np.array(numbers, dtype=dtype)


def offsets_of(ids: np.ndarray) -> np.ndarray:
    return ids - np.arange(ids.size)


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(vector(0, 1, 2, 3, 4, 90, 91), id="ascending, neighbours"),
        pytest.param(vector(100, 5, 7, 2), id="by frequency, as ModelOpt writes"),
        pytest.param(vector(0, 1, 2, 3, 4), id="a map that is the identity"),
    ],
)
def test_offsets_are_told_by_what_ids_cannot_be(ids: np.ndarray) -> None:
    found = read_vector(offsets_of(ids), V)
    assert found.reading == "offsets"
    np.testing.assert_array_equal(found.ids, ids)
    assert found.notes == () or "never filled" in found.notes[0]


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(vector(13, 5, 999, 7), id="the last is beyond V with its position"),
        pytest.param(vector(50, 49, 48, 7), id="they meet"),
        pytest.param(vector(3, 40, 80, dtype="int32"), id="no d2t is int32"),
        pytest.param(vector(3, 40, 80, dtype="uint64"), id="no d2t is unsigned"),
        pytest.param(vector(7, 999, 999, 5), id="FR-Spec's repeat, beyond V as offsets"),
    ],
)
def test_ids_are_told_by_what_offsets_cannot_be(ids: np.ndarray) -> None:
    found = read_vector(ids, V)
    assert found.reading == "ids"
    np.testing.assert_array_equal(found.ids, list(dict.fromkeys(ids.tolist())))


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(vector(100, 4, 5), id="offsets of 100, 5, 7, or ids"),
        pytest.param(vector(3, 40, 80), id="ascending without neighbours"),
        pytest.param(vector(3, 5, 5, 9), id="ids with a repeat, or offsets"),
    ],
)
def test_two_readings_are_refused_until_one_is_named(numbers: np.ndarray) -> None:
    with pytest.raises(VocabError, match="--as ids or --as offsets"):
        read_vector(numbers, V)
    as_ids = read_vector(numbers, V, reading="ids")
    np.testing.assert_array_equal(as_ids.ids, list(dict.fromkeys(numbers.tolist())))
    as_offsets = read_vector(numbers, V, reading="offsets")
    np.testing.assert_array_equal(as_offsets.ids, numbers + np.arange(numbers.size))


def test_a_smaller_v_settles_what_a_larger_leaves_open() -> None:
    numbers = vector(3, 40, 80)
    assert read_vector(numbers, 82).reading == "ids"
    with pytest.raises(VocabError, match="can be ids"):
        read_vector(numbers, 83)
    with pytest.raises(VocabError, match="can be ids"):
        read_vector(numbers, None)


@pytest.mark.parametrize(
    ("numbers", "reading", "says"),
    [
        (vector(5, -1, 2), "ids", r"-1 is below 0; they can be offsets \(--as offsets\)"),
        (vector(5, 1000), "ids", "1000 is not below the 1000 ids"),
        (vector(0, 0, 0, 0), "ids", "3 of them repeat another"),
        (vector(999, 999), "offsets", r"up to id 1000, and there are 1000; they can be ids"),
        (vector(0, -2), "offsets", "the offset -2 at 1 leads to id -1"),
        (vector(5, 4), "offsets", "to 1 ids more than once"),
        (vector(2**62, dtype="uint64"), "offsets", "there are 1000"),
        (vector(-1, 2000), None, "neither ids .* nor offsets"),
    ],
)
def test_impossible_readings_are_refused(
    numbers: np.ndarray, reading: str | None, says: str
) -> None:
    with pytest.raises(VocabError, match=says):
        read_vector(numbers, V, reading=reading)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        (np.zeros((2, 3), dtype=np.int64), r"shape \[2, 3\]"),
        (np.zeros(3), "float64"),
        (np.zeros(0, dtype=np.int64), "holds no id"),
        (np.array([2**64 - 1], dtype=np.uint64), "is no id"),
        (np.array(3), r"shape \[\]"),
    ],
)
def test_what_is_no_vector_of_integers_is_refused(numbers: np.ndarray, says: str) -> None:
    with pytest.raises(VocabError, match=says):
        read_vector(numbers, V)


def test_lists_hold_ids() -> None:
    np.testing.assert_array_equal(read_list(vector(100, 4, 5), V).ids, [100, 4, 5])
    np.testing.assert_array_equal(
        read_list(vector(100, 4, 5), V, reading="offsets").ids, [100, 5, 7]
    )


def test_repeats_are_dropped_where_they_stand_again_and_named() -> None:
    found = without_repeats(vector(9, 4, 9, 1, 4))
    np.testing.assert_array_equal(found.ids, [9, 4, 1])
    assert "ids 4, 9 stand more than once" in found.notes[0]
    assert "5 entries, 3 ids" in found.notes[0]


vocabularies = st.lists(st.integers(0, V - 1), min_size=1, max_size=60, unique=True)


@settings(deadline=None)
@given(vocabularies, st.sampled_from(["ids", "offsets"]), st.booleans())
def test_what_is_read_without_being_told_is_right(
    listed: list[int], written_as: str, ascending: bool
) -> None:
    ids = vector(*(sorted(listed) if ascending else listed))
    numbers = offsets_of(ids) if written_as == "offsets" else ids
    try:
        found = read_vector(numbers, V)
    except VocabError as refusal:
        assert "say which" in str(refusal)  # noqa: PT017 (either outcome is right, another is not)
        found = read_vector(numbers, V, reading=written_as)
    np.testing.assert_array_equal(found.ids, ids)
