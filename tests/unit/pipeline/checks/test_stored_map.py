"""Offsets or ids: what a map proves, with a mask and without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clean_drafters import IDS, K, V
from vocabtrim.pipeline.checks.stored_map import StoredMap

MASK = np.isin(np.arange(V), IDS)


def stored(numbers: np.ndarray, *, absolute: bool = False) -> StoredMap:
    return StoredMap("d2t", "I64", numbers.shape, numbers, absolute)


def test_the_kind_says_how_numbers_are_read() -> None:
    for absolute, expected in ((True, [1, 1, 4]), (False, [1, 2, 6])):
        ids = stored(np.array([1, 1, 4]), absolute=absolute).ids
        assert ids is not None
        assert ids.tolist() == expected
    assert StoredMap("d2t", "F32", (3,), None, absolute=False).ids is None


@pytest.mark.parametrize("mask", [MASK, None])
def test_offsets_are_not_taken_for_ids(mask: np.ndarray | None) -> None:
    assert not stored(IDS - np.arange(K)).holds_ids(mask, V)
    assert not stored(IDS, absolute=True).holds_ids(mask, V)


def test_a_mask_proves_ids() -> None:
    assert stored(IDS).holds_ids(MASK, V)
    # by frequency, too
    assert stored(IDS[::-1].copy()).holds_ids(MASK, V)
    assert not stored(IDS).holds_ids(np.roll(MASK, 1), V)


def test_without_a_mask_what_cannot_be_offsets_proves_ids() -> None:
    high = np.sort(np.random.default_rng(1).permutation(V)[:K])
    assert stored(high).holds_ids(None, V)
    assert not stored(high).holds_ids(None, None)
    # what could be both, and a few numbers, prove nothing
    assert not stored(np.arange(1, 2 * K, 2)).holds_ids(None, V)
    assert not stored(np.array([200, 250])).holds_ids(None, V)


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(0, 255), min_size=8, max_size=128), st.booleans())
def test_no_right_map_is_ever_taken_for_ids(kept: set[int], by_frequency: bool) -> None:
    ids = np.array(sorted(kept))
    if by_frequency:
        ids = np.random.default_rng(len(kept)).permutation(ids)
    mask = np.isin(np.arange(256), ids)
    assert not stored(ids - np.arange(ids.size)).holds_ids(mask, 256)
    assert not stored(ids - np.arange(ids.size)).holds_ids(None, 256)
