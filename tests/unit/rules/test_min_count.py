from __future__ import annotations

import numpy as np
import pytest

from tests.unit.rules.evidence import NONE, evidence_of
from vocabtrim.core.errors import VocabError
from vocabtrim.rules.min_count import MinCount


def test_keeps_what_occurs_often_enough() -> None:
    evidence = evidence_of([2, 1, 0, 3])
    np.testing.assert_array_equal(MinCount(2, exact=True).select(evidence, NONE).ids, [0, 3])
    np.testing.assert_array_equal(MinCount(1, exact=True).select(evidence, NONE).ids, [0, 1, 3])


def test_kept_ids_come_on_top() -> None:
    vocab = MinCount(3, exact=True).select(evidence_of([2, 1, 0, 3]), np.array([2]))
    np.testing.assert_array_equal(vocab.ids, [2, 3])


def test_rounds_up_to_64_rows_with_the_next_ids() -> None:
    vocab = MinCount(2).select(evidence_of([1] * 100 + [2]), NONE)
    assert vocab.size == 64
    assert 100 in vocab.ids


def test_refuses_a_threshold_below_one_and_one_that_nothing_meets() -> None:
    with pytest.raises(VocabError, match="must be 1 or more, found 0"):
        MinCount(0)
    with pytest.raises(VocabError, match="no id occurs 9 times"):
        MinCount(9).select(evidence_of([1, 2]), NONE)
