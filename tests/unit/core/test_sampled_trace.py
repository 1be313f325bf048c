"""What a sampled trace refuses to be, and several read as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.sampled_traces import drawn, same
from vocabtrim.core.sampled_trace import joined_sampled
from vocabtrim.core.trace import TraceError


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"accepted": np.zeros((4, 2, 2))}, "has the shape"),
        ({"max_gamma": 0, "own_depths": False}, "has the shape"),
        ({"overlap": np.full((5, 2, 2), 1.1)}, "overlap of a sampled trace are no chances"),
        ({"accepted": np.full((5, 2, 2), -0.1)}, "accepted of a sampled trace are no chances"),
        ({"accepted": np.full((5, 2, 2), np.nan)}, "accepted of a sampled trace are no chances"),
        ({"order": np.array([4, 0, 8, 7, 4])}, "has an id twice"),
        ({"order": np.array([[4, 0, 8, 7, 1]])}, "has an id twice"),
        ({"order": np.array([4, 0, 9, 7, 1])}, "none of 9"),
        ({"order": np.array([4, 0, -1, 7, 1])}, "none of 9"),
        ({"sizes": (5, 2)}, "must ascend from 1 to 5 at most, found 5, 2"),
        ({"sizes": (0, 2)}, "must ascend"),
        ({"sizes": (2, 6)}, "must ascend"),
    ],
)
def test_contradictions_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        replace(drawn(), **wrong)


def test_traces_of_one_pair_are_read_as_one() -> None:
    one, other = drawn(1), drawn(2)
    both = joined_sampled([one, other])
    assert both.texts == one.texts + other.texts
    assert np.array_equal(both.accepted, np.concatenate([one.accepted, other.accepted]))
    assert np.array_equal(both.overlap, np.concatenate([one.overlap, other.overlap]))
    assert same(joined_sampled([one]), one)


@pytest.mark.parametrize(
    "differing",
    [
        {"tokenizer": "u"},
        {"order": np.array([0, 4, 8, 7, 1])},
        {"sizes": (3, 5)},
        {"vocab_size": 10},
    ],
    ids=str,
)
def test_traces_of_others_are_not(differing: dict[str, Any]) -> None:
    with pytest.raises(TraceError, match="cannot be read as one"):
        joined_sampled([drawn(1), replace(drawn(2), **differing)])
