"""Named maps: convention where it is all there is, proof where a t2d lies beside."""

from __future__ import annotations

import numpy as np
import pytest

from vocabtrim.core.errors import VocabError
from vocabtrim.tensors.id_maps import AGAINST_CONVENTION, is_map, read_maps, read_mask

V = 50
IDS = np.array([2, 3, 9, 30])
OFFSETS = IDS - np.arange(4)
MASK = np.isin(np.arange(V), IDS)


def test_names_of_maps() -> None:
    assert all(is_map(name) for name in ("d2t", "model.d2t", "t2d", "token_map", "vocab_map"))
    assert not any(is_map(name) for name in ("lm_head.weight", "d2t.weight", "my_d2t"))


def test_d2t_is_offsets_by_convention() -> None:
    found = read_maps({"model.d2t": OFFSETS}, V)
    np.testing.assert_array_equal(found.ids, IDS)
    assert found.what == "d2t (offsets)"
    # by frequency, as ModelOpt writes it
    order = np.array([30, 2, 9, 3])
    np.testing.assert_array_equal(read_maps({"d2t": order - np.arange(4)}, V).ids, order)


def test_d2t_that_cannot_be_offsets_is_refused_with_a_hint() -> None:
    with pytest.raises(VocabError, match=r"they can be ids \(--as ids\)"):
        read_maps({"d2t": np.array([2, 3, 9, 48])}, V)
    found = read_maps({"d2t": np.array([2, 3, 9, 48])}, V, reading="ids")
    np.testing.assert_array_equal(found.ids, [2, 3, 9, 48])


def test_t2d_decides_what_d2t_holds() -> None:
    by_convention = read_maps({"d2t": OFFSETS, "t2d": MASK}, None)
    against_it = read_maps({"d2t": IDS, "t2d": MASK}, None)
    np.testing.assert_array_equal(by_convention.ids, against_it.ids)
    assert (by_convention.notes, by_convention.vocab_size) == ((), V)
    assert against_it.notes == (AGAINST_CONVENTION,)
    assert against_it.what == "d2t (absolute ids)"


@pytest.mark.parametrize("reading", [None, "offsets"])
def test_maps_that_contradict_are_refused(reading: str | None) -> None:
    with pytest.raises(VocabError, match="d2t leads to 4 ids and t2d marks 1, and they are not"):
        read_maps({"d2t": OFFSETS, "t2d": np.arange(V) == 4}, V, reading=reading)


def test_t2d_alone_is_enough() -> None:
    found = read_maps({"t2d": MASK}, None)
    np.testing.assert_array_equal(found.ids, IDS)
    assert (found.what, found.vocab_size) == ("t2d", V)


def test_token_maps_hold_ids() -> None:
    for name in ("token_map", "vocab_map"):
        np.testing.assert_array_equal(read_maps({name: IDS[::-1]}, V).ids, IDS[::-1])


def test_no_map_and_several_are_refused() -> None:
    with pytest.raises(VocabError, match="not reduced"):
        read_maps({}, V)
    with pytest.raises(VocabError, match=r"several maps: a\.d2t, b\.d2t"):
        read_maps({"a.d2t": OFFSETS, "b.d2t": OFFSETS}, V)


@pytest.mark.parametrize(
    "mask", [np.zeros(V, dtype=bool), np.array([0, 1, 2]), np.ones((2, 2), dtype=bool), np.ones(3)]
)
def test_what_is_no_mask_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(VocabError, match="marks ids with true"):
        read_mask(mask)
    np.testing.assert_array_equal(read_mask(np.array([0, 1, 1], dtype=np.uint8)), [1, 2])
