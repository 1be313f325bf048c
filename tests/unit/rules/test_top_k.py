from __future__ import annotations

import numpy as np

from tests.unit.rules.evidence import NONE, evidence_of
from vocabtrim.rules.top_k import TopK


def test_keeps_the_most_frequent() -> None:
    vocab = TopK(2, exact=True).select(evidence_of([1, 9, 0, 5]), NONE)
    np.testing.assert_array_equal(vocab.ids, [1, 3])
    assert vocab.tokenizer == "t"


def test_rounds_up_to_64_rows_unless_exact() -> None:
    evidence = evidence_of([1] * 200)
    assert TopK(65).select(evidence, NONE).size == 128
    assert TopK(65, exact=True).select(evidence, NONE).size == 65


def test_kept_ids_are_inside_k() -> None:
    vocab = TopK(2, exact=True).select(evidence_of([1, 9, 0, 5]), np.array([2]))
    np.testing.assert_array_equal(vocab.ids, [1, 2])


def test_fills_beyond_the_seen_in_ascending_order() -> None:
    vocab = TopK(4, exact=True).select(evidence_of([0, 0, 0, 0, 0, 3]), NONE)
    np.testing.assert_array_equal(vocab.ids, [0, 1, 2, 5])
