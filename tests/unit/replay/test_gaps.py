from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces import V, World
from vocabtrim.replay.gaps import gaps


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    width=st.integers(1, V),
    ids=st.sets(st.integers(0, V - 1), min_size=1),
)
def test_gaps_are_those_of_the_logits_or_less(seed: int, width: int, ids: set[int]) -> None:
    world = World(seed)
    inside = np.isin(np.arange(V), list(ids))
    trace = world.trace(width)
    found, row = gaps(trace, inside), 0
    for text, logits in zip(world.texts, world.logits, strict=True):
        for start in range(text.starts):
            for depth in range(world.max_gamma):
                if start + depth >= text.starts:
                    assert found[row, depth] == np.inf
                    continue
                token = int(text.tokens[start + 1 + depth])
                others = [logits[start, depth, one] for one in ids if one != token]
                if token not in ids:
                    assert found[row, depth] == np.inf
                elif width == V and others:
                    expected = abs(logits[start, depth, token] - max(others))
                    last = logits[start, depth].min()
                    # nothing is kept that weighs less than the last of all candidates
                    assert found[row, depth] == pytest.approx(expected)
                    assert max(others) >= last
                elif others and trace.target_rank[row, depth] < width:
                    expected = logits[start, depth, token] - max(others)
                    assert found[row, depth] <= abs(expected) + 1e-6
            row += 1


def test_positions_that_were_looked_up_again_say_nothing() -> None:
    trace = World(8, texts=9).trace(2, resolved=True)
    assert trace.above
    found = gaps(trace, np.ones(V, dtype=bool))
    for row, depth in trace.above:
        assert found[row, depth] == 0
