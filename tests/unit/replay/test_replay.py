from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.traces import TOKENIZER, V, World
from vocabtrim.core.errors import TokenizerMismatch
from vocabtrim.core.trace import Trace, TraceError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.replay.replay import (
    Nested,
    OpenPositions,
    accepted,
    accepted_in_context,
    replay,
    runs,
    walk,
)

GAMMAS = (0, 1, 2, 3, 4)


def vocab(ids: list[int]) -> DraftVocab:
    return DraftVocab.from_ids(ids, V, TOKENIZER)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    own_depths=st.booleans(),
    ids=st.sets(st.integers(0, V - 1), min_size=1),
)
def test_replay_is_decoding(seed: int, own_depths: bool, ids: set[int]) -> None:
    world = World(seed, own_depths=own_depths)
    chosen = vocab(list(ids))
    for found, gamma in zip(replay(world.trace(), chosen, GAMMAS), GAMMAS, strict=True):
        assert found.per_text == world.decode(chosen.ids, gamma)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    own_depths=st.booleans(),
    width=st.integers(1, V),
    size=st.integers(1, V),
)
def test_few_candidates_answer_right_or_not_at_all(
    seed: int, own_depths: bool, width: int, size: int
) -> None:
    world = World(seed, own_depths=own_depths)
    order = np.random.default_rng(seed).permutation(V)
    chosen = vocab(order[:size].tolist())
    whole = accepted(world.trace(), chosen.t2d)
    resolved = world.trace(width, resolved=True)
    assert np.array_equal(accepted(resolved, chosen.t2d), whole)
    assert np.array_equal(Nested(resolved, order).accepted(size), whole)
    narrow = world.trace(width)
    # open exactly where the target's token is inside and no candidate decides
    known = narrow.target_rank >= 0
    undecided = known & (narrow.target_rank > width) & chosen.t2d[narrow.wanted]
    undecided &= ~chosen.t2d[narrow.candidates].any(axis=2)
    if undecided.any():
        with pytest.raises(OpenPositions) as fault:
            accepted(narrow, chosen.t2d)
        assert np.array_equal(fault.value.rows, np.argwhere(undecided))
        nested = Nested(narrow, order)
        with pytest.raises(OpenPositions):
            nested.accepted(size)
        assert nested.open_at(size) == undecided.sum()
        assert np.array_equal(
            nested.accepted(size, refuse_open=True), narrow_accepted(narrow, chosen) & ~undecided
        )
        assert set(map(tuple, np.argwhere(undecided))) <= set(map(tuple, nested.open))
    else:
        assert np.array_equal(accepted(narrow, chosen.t2d), whole)
        assert np.array_equal(Nested(narrow, order).accepted(size), whole)


def narrow_accepted(narrow: Trace, chosen: DraftVocab) -> NDArray[np.bool_]:
    """Where the token is inside and no candidate above it is."""
    above = np.arange(narrow.width) < narrow.target_rank[..., None]
    rivals = (chosen.t2d[narrow.candidates] & above).any(axis=2)
    result: NDArray[np.bool_] = (narrow.target_rank >= 0) & chosen.t2d[narrow.wanted] & ~rivals
    return result


def test_open_for_any_size_is_open_for_one() -> None:
    trace = World(8, texts=9).trace(2)
    order = np.random.default_rng(3).permutation(V)
    nested = Nested(trace, order)
    by_size = set()
    for size in range(1, V + 1):
        try:
            nested.accepted(size)
        except OpenPositions as fault:
            by_size |= set(map(tuple, fault.rows))
    assert set(map(tuple, nested.open)) == by_size != set()


def test_some_narrow_trace_is_open() -> None:
    opened = 0
    for seed in range(20):
        try:
            accepted(World(seed).trace(1), vocab([4, 9]).t2d)
        except OpenPositions:
            opened += 1
    assert 0 < opened < 20


@pytest.mark.parametrize("own_depths", [True, False])
def test_nested_vocabularies_are_vocabularies(own_depths: bool) -> None:
    trace = World(3, own_depths=own_depths, texts=9).trace()
    order = np.random.default_rng(5).permutation(V)
    nested = Nested(trace, order)
    for size in range(1, V + 1):
        single = replay(trace, vocab(order[:size].tolist()), GAMMAS)
        together = nested.replay(size, GAMMAS)
        assert [one.per_text for one in together] == [one.per_text for one in single]


def test_a_vocabulary_may_follow_the_context() -> None:
    world = World(11, texts=8)
    trace = world.trace()
    generator = np.random.default_rng(1)
    sets = generator.random((*trace.target_rank.shape, V)) < 0.6
    rows, depths = np.indices(trace.target_rank.shape)
    found = accepted_in_context(
        trace,
        sets[rows[..., None], depths[..., None], trace.candidates],
        sets[rows, depths, trace.wanted],
    )
    same_everywhere = sets[0, 0]
    assert np.array_equal(
        accepted_in_context(
            trace, same_everywhere[trace.candidates], same_everywhere[trace.wanted]
        ),
        accepted(trace, same_everywhere),
    )
    for row, depth in np.argwhere(trace.target_rank >= 0):
        best = next((one for one in trace.candidates[row, depth] if sets[row, depth, one]), -1)
        assert found[row, depth] == (best == trace.wanted[row, depth])
    assert not found[trace.target_rank < 0].any()


def test_a_token_that_the_drafter_has_no_row_for_is_never_accepted() -> None:
    trace = World(6, texts=8).trace(3)
    gone = int(trace.wanted[0, 0])
    without = np.where(trace.wanted == gone, V, trace.target_rank)
    candidates = np.where(trace.candidates == gone, (gone + 1) % V, trace.candidates)
    reduced = replace(trace, target_rank=without.astype(np.int32), candidates=candidates)
    found = accepted(reduced, np.ones(V, dtype=bool))
    assert not found[trace.wanted == gone].any()
    assert found.any()
    assert not Nested(reduced, np.arange(V)).accepted(V)[trace.wanted == gone].any()


def test_all_texts_together() -> None:
    world = World(2, texts=12)
    (found,) = replay(world.trace(), DraftVocab.full(V, TOKENIZER), [3])
    assert found.pooled.tokens == sum(text.starts for text in world.texts)
    assert found.pooled.cycles == sum(one.cycles for one in found.per_text)
    odd = np.array([text.domain == "odd" for text in world.texts])
    assert found.of(odd) + found.of(~odd) == found.pooled
    assert 0.1 < (found.pooled.acceptance_rate or 0) < 0.9  # neither all nor nothing


def test_a_draft_length_beyond_the_trace_is_refused() -> None:
    trace = World(1).trace()
    with pytest.raises(TraceError, match=r"draft lengths 0 to 4, asked for 5"):
        walk(trace, runs(trace, accepted(trace, np.ones(V, dtype=bool))), [5])


def test_another_tokenizer_is_refused() -> None:
    with pytest.raises(TokenizerMismatch, match="different tokenizers"):
        replay(World(1).trace(), DraftVocab.full(V, "sha256:" + "8" * 64), [1])
    with pytest.raises(TraceError, match="over 13 ids, the draft vocabulary over 14"):
        replay(World(1).trace(), DraftVocab.full(14, TOKENIZER), [1])


def test_an_order_has_every_id_once() -> None:
    with pytest.raises(TraceError, match="each of the 13 ids once"):
        Nested(World(1).trace(), np.zeros(V, dtype=np.int64))
