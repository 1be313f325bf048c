"""The reduced head: kept rows only, one map, and none where K = V."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import H, V
from tests.tiny_pairs import vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.drafters.base import ReducedHead

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(V, H, generator=GENERATOR)
BIAS = torch.randn(V, generator=GENERATOR) * 5
HIDDEN = torch.randn(20, H, generator=GENERATOR)


@settings(deadline=None, max_examples=30)
@given(ids=st.sets(st.integers(0, V - 1), min_size=1), biased=st.booleans())
def test_the_best_kept_id_is_that_of_the_full_logits(ids: set[int], biased: bool) -> None:
    vocab = DraftVocab.from_ids(sorted(ids), V)
    rows = torch.tensor(sorted(ids))
    head = ReducedHead(WEIGHT[rows], vocab, BIAS[rows] if biased else None)
    full = HIDDEN @ WEIGHT.T + (BIAS if biased else 0)
    torch.testing.assert_close(head.logits(HIDDEN), full[:, rows])
    for hidden, logits in zip(HIDDEN, full, strict=True):
        best = head.best(hidden)
        assert best.shape == ()
        assert best.dtype == torch.int64
        assert int(best) == max(ids, key=lambda one: float(logits[one]))


def test_all_ids_need_no_map_and_a_map_would_change_nothing() -> None:
    full = ReducedHead(WEIGHT, DraftVocab.full(V))
    mapped = ReducedHead(WEIGHT, vocabulary(V))
    assert full._ids is None
    mapped._ids = torch.arange(V)
    for hidden in HIDDEN:
        assert int(full.best(hidden)) == int(mapped.best(hidden))
    assert ReducedHead(WEIGHT[1:], DraftVocab(np.arange(1, V), V))._ids is not None


def test_of_equal_rows_the_lowest_id_is_best() -> None:
    # as in the full head: argmax takes the first
    weight = WEIGHT[:4].clone()
    weight[1] = weight[3] = WEIGHT[7] * 100
    head = ReducedHead(weight, DraftVocab.from_ids([10, 20, 30, 40], V))
    assert int(head.best(WEIGHT[7])) == 20


def test_one_id_is_always_best() -> None:
    head = ReducedHead(WEIGHT[5:6], DraftVocab.from_ids([5], V))
    assert [int(head.best(hidden)) for hidden in HIDDEN[:3]] == [5, 5, 5]


def test_rows_and_ids_must_agree() -> None:
    with pytest.raises(DecodeError, match="head of 95 rows cannot serve a vocabulary of 96 ids"):
        ReducedHead(WEIGHT[1:], DraftVocab.full(V))
