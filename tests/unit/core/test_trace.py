from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.traces import V, World
from vocabtrim.core.trace import Trace, TracedText, TraceError, joined


def test_rows_know_their_text() -> None:
    world = World(4, texts=6)
    trace = world.trace()
    assert trace.width == V
    row = 0
    for index, text in enumerate(world.texts):
        assert trace.first_rows[index] == row
        for start in range(text.starts):
            assert trace.left[row] == text.tokens.size - 1 - start
            following = text.tokens[start + 1 : start + 1 + trace.max_gamma].tolist()
            missing = [-1] * (trace.max_gamma - len(following))
            assert trace.wanted[row].tolist() == following + missing
            row += 1
    assert trace.first_rows[-1] == row == len(trace.candidates)


def test_a_text_fits_its_budget() -> None:
    with pytest.raises(TraceError, match="2 new tokens do not fit the 1"):
        TracedText("a", "", np.array([1]), np.array([1, 2]), 1)
    with pytest.raises(TraceError, match="0 new tokens"):
        TracedText("a", "", np.array([1]), np.array([], dtype=np.int64), 1)


def test_contradictions_are_refused() -> None:
    trace = World(4, texts=6).trace()
    with pytest.raises(TraceError, match="target_score are"):
        replace(trace, target_score=trace.target_score[1:])
    with pytest.raises(TraceError, match="candidates are"):
        replace(trace, max_gamma=3)
    moved = trace.target_rank.copy()
    moved[0, 0] = -1
    with pytest.raises(TraceError, match="end elsewhere"):
        replace(trace, target_rank=moved)
    other = trace.target_rank.copy()
    other[0, 0] = (other[0, 0] + 1) % V
    with pytest.raises(TraceError, match="do not lead to the texts' own tokens"):
        replace(trace, target_rank=other)
    for wrong in (trace.candidates + V, trace.candidates - 1, trace.candidates.astype(np.float32)):
        with pytest.raises(TraceError, match="ids that are none of"):
            replace(trace, candidates=wrong)
    with pytest.raises(TraceError, match="ids that are none of"):
        replace(trace, above={(0, 0): np.array([V], dtype=np.int32)})
    with pytest.raises(TraceError, match="positions that it does not have"):
        replace(trace, above={(99_999, 0): np.array([1], dtype=np.int32)})


def test_several_are_one() -> None:
    worlds = [World(seed, texts=5) for seed in (4, 7)]
    traces = [world.trace(2, resolved=True) for world in worlds]
    whole = joined(traces)
    assert [text.name for text in whole.texts] == [f"text {i}" for i in range(5)] * 2
    first = traces[0].target_rank.shape[0]
    assert np.array_equal(whole.candidates[first:], traces[1].candidates)
    assert len(whole.above) == len(traces[0].above) + len(traces[1].above) > 0
    for (row, depth), ids in traces[1].above.items():
        assert np.array_equal(whole.above[first + row, depth], ids)
    assert len(joined(traces[:1]).texts) == 5


@pytest.mark.parametrize(
    "other",
    [
        World(4).trace(3),
        World(4, max_gamma=3).trace(2),
        World(4, own_depths=False).trace(2),
        replace(World(4).trace(2), tokenizer="another"),
        replace(World(4).trace(2), head_ids=np.arange(5)),
    ],
    ids=["width", "gamma", "depths", "tokenizer", "rows"],
)
def test_traces_of_different_kinds_are_not_one(other: Trace) -> None:
    with pytest.raises(TraceError, match="cannot be read as one"):
        joined([World(4).trace(2), other])


def test_ids_without_a_row_come_last() -> None:
    trace = replace(World(4).trace(), head_ids=np.array([1, 4, 6]))
    assert trace.head_rows == 3
    # a ranking of the tokenizer's ids, of which this one has 11
    ranking = np.array([5, 4, 0, 6, 1, 2, 3, 7, 8, 9, 10])
    assert trace.order(ranking).tolist() == [4, 6, 1, 5, 0, 2, 3, 7, 8, 9, 10, 11, 12]
    whole = World(4).trace()
    assert whole.head_rows == V
    assert whole.order(ranking).tolist() == [*ranking, 11, 12]
