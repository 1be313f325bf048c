from __future__ import annotations

import numpy as np

from tests.unit.rules.evidence import NONE, evidence_of
from vocabtrim.rules.first import First


def test_takes_the_lowest_ids_whatever_was_counted() -> None:
    vocab = First(3, exact=True).select(evidence_of([0, 0, 0, 0, 9]), NONE)
    np.testing.assert_array_equal(vocab.ids, [0, 1, 2])


def test_kept_ids_take_the_place_of_the_highest() -> None:
    vocab = First(3, exact=True).select(evidence_of([1] * 6), np.array([1, 5]))
    np.testing.assert_array_equal(vocab.ids, [0, 1, 5])


def test_rounds_up_to_64_rows() -> None:
    assert First(10).select(evidence_of([1] * 100), NONE).size == 64
