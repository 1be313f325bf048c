"""Expectations from chances, against every outcome counted one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.trace import TracedText, TraceError
from vocabtrim.replay.sampled import expected

SIZES = (4, 9)


def traced(
    texts: Sequence[TracedText],
    accepted: np.ndarray,
    overlap: np.ndarray,
    *,
    own_depths: bool = True,
    max_gamma: int = 3,
    sizes: tuple[int, ...] = SIZES,
) -> SampledTrace:
    return SampledTrace(
        tuple(texts), sizes, np.arange(9), accepted, overlap, own_depths, max_gamma, 9, "t"
    )


def drawn(seed: int, *, own_depths: bool, texts: int = 4, max_gamma: int = 3) -> SampledTrace:
    generator = np.random.default_rng(seed)
    known = []
    for index in range(texts):
        size = int(generator.integers(1, 7))
        tokens = generator.integers(0, 9, size=size)
        budget = size + int(generator.integers(0, 3))
        known.append(TracedText(str(index), "", np.array([1]), tokens, budget))
    rows = sum(text.starts for text in known)
    chances = generator.random((2, rows, max_gamma if own_depths else 1, len(SIZES)))
    return traced(known, *chances, own_depths=own_depths, max_gamma=max_gamma)


def outcomes(
    trace: SampledTrace, text: TracedText, first: int, gamma: int, size: int
) -> list[tuple[float, list[tuple[int, int, int]]]]:
    """Return every way in which a text can be decoded: its chance and its cycles."""
    done: list[tuple[float, list[tuple[int, int, int]]]] = []

    def go_on(chance: float, emitted: int, cycles: list[tuple[int, int, int]]) -> None:
        if emitted >= text.tokens.size:
            done.append((chance, cycles))
            return
        asked, left = min(gamma, text.budget - emitted - 1), text.tokens.size - emitted
        for took in range(min(asked, left) + 1):
            here = chance
            for depth in range(took + 1):
                at = first + emitted - 1
                if depth >= min(asked, left):
                    continue
                r = (
                    trace.accepted[at, depth, size]
                    if trace.own_depths
                    else trace.accepted[at + depth, 0, size]
                )
                here *= r if depth < took else 1 - r
            ended = took == left
            cycle = (took if ended else asked, took, took if ended else took + 1)
            go_on(here, emitted + cycle[2], [*cycles, cycle])

    go_on(1.0, 1, [])
    return done


@pytest.mark.parametrize("own_depths", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_every_outcome_counts_as_it_is_likely(seed: int, own_depths: bool) -> None:
    trace = drawn(seed, own_depths=own_depths)
    found = expected(trace, [0, 1, 3])
    assert {size: [one.gamma for one in several] for size, several in found.items()} == {
        size: [0, 1, 3] for size in SIZES
    }
    for size, one in ((size, one) for size, several in found.items() for one in several):
        first = 0
        for index, text in enumerate(trace.texts):
            accepted, drafted, made = np.zeros((3, one.gamma + 1))
            ways = outcomes(trace, text, first, one.gamma, SIZES.index(size))
            assert sum(chance for chance, _ in ways) == pytest.approx(1)
            for chance, cycles in ways:
                counts = AcceptCounts.of_cycles(one.gamma, cycles)
                assert counts.tokens == text.starts
                accepted += chance * counts.accepted
                drafted += chance * counts.drafted
                emitted = 1
                for _, _, several in cycles:
                    made[min(one.gamma, text.budget - emitted - 1)] += chance
                    emitted += several
            assert one.accepted[index] == pytest.approx(accepted)
            assert one.drafted[index] == pytest.approx(drafted)
            assert one.made[index] == pytest.approx(made)
            assert one.tokens[index] == text.starts
            alone = one.per_text[index]
            assert alone.cycles == pytest.approx(accepted.sum())
            if text.starts:
                assert alone.block_efficiency == pytest.approx(text.starts / accepted.sum())
            first += text.starts
        assert one.pooled.cycles == pytest.approx(one.accepted.sum())


def test_what_is_always_accepted_is_decoded_in_the_fewest_cycles() -> None:
    text = TracedText("a", "", np.array([1]), np.arange(11), 30)
    ones = np.ones((10, 3, 1))
    trace = traced([text], ones, ones, sizes=(5,))
    (found,) = expected(trace, [3])[5]
    # 4, 4 and 2 tokens, the last of which is an accepted EOS
    assert found.accepted.tolist() == [[0, 0, 1, 2]]
    assert found.drafted.tolist() == [[0, 0, 1, 2]]
    assert found.made.tolist() == [[0, 0, 0, 3]]
    assert found.pooled.acceptance_by_position == [1, 1, 1]
    (alone,) = expected(replace(trace, accepted=np.zeros((10, 3, 1))), [3])[5]
    assert alone.pooled.block_efficiency == 1


def test_overlap_is_averaged_where_texts_go_on() -> None:
    overlap = np.array([[[0.5], [0.3]], [[0.7], [0.0]]])
    text = TracedText("a", "", np.array([1]), np.arange(3), 3)
    trace = traced([text], np.zeros((2, 2, 1)), overlap, max_gamma=2, sizes=(5,))
    assert trace.acceptance_by_depth().ravel().tolist() == pytest.approx([0.6, 0.3])


def test_a_draft_length_beyond_the_trace_is_refused() -> None:
    with pytest.raises(TraceError, match="draft lengths 0 to 3, asked for 4"):
        expected(drawn(1, own_depths=True), [4])


def test_without_a_cycle_there_is_no_block_efficiency() -> None:
    empty = np.zeros((0, 3, 2))
    for several in expected(traced((), empty, empty), [2]).values():
        assert several[0].pooled.block_efficiency is None
