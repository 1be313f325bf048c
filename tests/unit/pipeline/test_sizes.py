"""Which vocabularies are compared, and which a trace of sampled texts knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.sampled_traces import drawn
from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import TokenizerMismatch, VocabError
from vocabtrim.core.trace import TraceError
from vocabtrim.pipeline.sizes import (
    check_order,
    known_sizes,
    order_of_all,
    ranked,
    sizes_known,
    sizes_to_compare,
)


def counted(*numbers: int, eos: tuple[int, ...] = (), tokenizer: str = "t") -> TokenCounts:
    vector = np.array(numbers)
    return TokenCounts(vector, np.minimum(vector, 1), 9, tokenizer, SpecialIds(eos=eos))


def test_what_must_be_kept_comes_first() -> None:
    order, kept = ranked(counted(1, 5, 0, 3, eos=(2,)))
    assert (order.tolist(), kept) == ([2, 1, 3, 0], 1)


def test_ids_beyond_a_ranking_come_last() -> None:
    assert order_of_all(np.array([2, 0, 1]), 5).tolist() == [2, 0, 1, 3, 4]


@pytest.mark.parametrize(
    ("asked", "exact", "sizes"),
    [
        ([], False, [256, 512, 1000]),
        ([60, 128, 100], False, [64, 128, 1000]),
        ([60, 2000], True, [60, 1000]),
        ([999], False, [1000]),
    ],
)
def test_all_rows_are_always_compared(asked: list[int], exact: bool, sizes: list[int]) -> None:
    assert sizes_to_compare(asked, 5, 1000, exact=exact) == sizes


def test_sizes_have_room_for_what_is_kept() -> None:
    assert sizes_to_compare([], 300, 1000, exact=False) == [512, 1000]
    with pytest.raises(VocabError, match="K = 64 has no room for the 65 ids"):
        sizes_to_compare([60], 65, 1000, exact=False)
    with pytest.raises(VocabError, match="K = 0 has no room"):
        sizes_to_compare([0], 0, 1000, exact=True)


def test_a_sampled_trace_is_asked_for_what_it_knows() -> None:
    trace = drawn()
    assert known_sizes(trace) == "2, 5"
    assert sizes_known(trace, [], exact=False) == [2, 5]
    assert sizes_known(trace, [2], exact=True) == [2]
    # rounded as `select` rounds it, which is all five rows here
    assert sizes_known(trace, [2], exact=False) == [5]
    with pytest.raises(TraceError, match="knows K = 2, 5, not 3; trace again with --sizes"):
        sizes_known(trace, [3], exact=True)


def test_counts_of_another_order_are_refused(tmp_path: Path) -> None:
    # the trace's order is 4 0 8 7 1; its head has no other rows
    numbers = [8, 2, 1, 1, 9, 1, 1, 5, 7]

    def written(name: str, one: TokenCounts) -> Path:
        write_counts(tmp_path / name, one, inputs={}, options={}, facts={})
        return tmp_path / name

    trace = drawn()
    check_order(trace, None)
    check_order(trace, written("same", counted(*numbers)))
    # what has no row may come anywhere
    check_order(trace, written("among", counted(*numbers[:2], 10, *numbers[3:])))
    # fewer ids than V: the others come last
    check_order(replace(trace, vocab_size=12), tmp_path / "same")
    with pytest.raises(TraceError, match="takes ids in another order"):
        check_order(trace, written("other", counted(10, *numbers[1:])))
    with pytest.raises(TokenizerMismatch):
        check_order(trace, written("stranger", counted(*numbers, tokenizer="u")))
