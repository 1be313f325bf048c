from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.traces import V, World
from vocabtrim.core.trace import TracedText, TraceError


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
