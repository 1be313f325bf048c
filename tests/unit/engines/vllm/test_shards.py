"""Rows by position over 1, 2, 4 and 8 ranks, and the best logit of all of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.engines.vllm.shards import (
    EXACT,
    Share,
    best_position,
    local_best,
    padding_of,
    share_of,
)

RANKS = [1, 2, 4, 8]


def best(logits: torch.Tensor, ranks: int) -> list[int]:
    """The best of [B, K] logits, held by several ranks."""
    K = logits.shape[1]
    pairs = []
    for rank in range(ranks):
        share = share_of(K, ranks, rank)
        own = torch.full((logits.shape[0], share.padded), 1e9)  # what padding holds means nothing
        own[:, : share.rows] = logits[:, share.first : share.first + share.rows]
        pairs.append(local_best(own, share))
    return best_position(torch.stack(pairs, dim=1)).tolist()


@pytest.mark.parametrize("ranks", [*RANKS, 3, 6])
@pytest.mark.parametrize("K", [1, 63, 64, 65, 100, 4096, 4097, 40_960, 47_149])
def test_every_row_is_held_once_in_the_order_of_positions(K: int, ranks: int) -> None:
    shares = [share_of(K, ranks, rank) for rank in range(ranks)]
    held = [p for share in shares for p in range(share.first, share.first + share.rows)]
    assert held == list(range(K))
    assert len({share.padded for share in shares}) == 1
    assert all(share.rows <= share.padded for share in shares)
    # no rank has more than its part of the padded rows
    assert max(share.rows for share in shares) * ranks < K + padding_of(ranks)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_multiple_of_64_is_shared_out_evenly(ranks: int) -> None:
    rows = {share_of(40_960, ranks, rank).rows for rank in range(ranks)}
    assert rows == {40_960 // ranks}


def test_frequent_ids_do_not_fall_on_one_rank() -> None:
    """Kept ids as they are in the field: nearly all among the first quarter of V."""
    V, K = 248_320, 47_168
    ids = list(range(45_700)) + list(range(45_700, V, 138))[: K - 45_700]
    by_id = [sum(one * 2 // V == rank for one in ids) for rank in (0, 1)]
    by_position = [share_of(len(ids), 2, rank).rows for rank in (0, 1)]
    assert by_id[0] > 45_000
    assert abs(by_position[0] - by_position[1]) <= padding_of(2)


@pytest.mark.parametrize("ranks", RANKS)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_several_ranks_choose_what_one_chooses(ranks: int, data: st.DataObject) -> None:
    K = data.draw(st.integers(1, 300))
    # few different values: many ties, within a rank and across
    rows = st.lists(st.sampled_from([-1.5, 0.0, 2.0, 2.5]), min_size=K, max_size=K)
    logits = torch.tensor(data.draw(st.lists(rows, min_size=1, max_size=3)))
    found = best(logits, ranks)
    highest = logits.max(dim=1, keepdim=True).values
    assert found == [
        int((row == top).nonzero()[0]) for row, top in zip(logits, highest, strict=True)
    ]


@pytest.mark.parametrize("ranks", RANKS)
def test_bfloat16_is_compared_as_it_is(ranks: int) -> None:
    logits = torch.zeros(1, 256, dtype=torch.bfloat16)
    logits[0, 200], logits[0, 70] = 3.0, 2.984375  # neighbours in bfloat16
    assert best(logits, ranks) == [200]


def test_a_rank_without_rows_never_wins() -> None:
    share = share_of(64, 8, 7)
    assert share.rows == 8
    few = share_of(8, 8, 3)
    assert (few.rows, few.first) == (0, 8)
    pair = local_best(torch.full((2, few.padded), 1e9), few)
    assert pair[:, 0].tolist() == [-math.inf, -math.inf]
    lowest = torch.full((1, 8), -math.inf)
    assert best(lowest, 8) == [0]


def test_positions_are_exact_up_to_the_limit() -> None:
    share = Share(first=EXACT - 2, rows=2, padded=64)
    logits = torch.zeros(1, 64)
    logits[0, 1] = 1.0
    assert best_position(local_best(logits, share)[:, None]).tolist() == [EXACT - 1]
    with pytest.raises(ValueError, match="between 1 and 16777216 rows, found 16777217"):
        share_of(EXACT + 1, 1, 0)


@pytest.mark.parametrize(("K", "ranks", "rank"), [(0, 1, 0), (64, 2, 2), (64, 2, -1)])
def test_what_is_no_share(K: int, ranks: int, rank: int) -> None:
    with pytest.raises(ValueError, match=r"there is no rank|has between 1 and"):
        share_of(K, ranks, rank)
