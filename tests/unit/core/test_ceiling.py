"""The closed form equals a walk through the text, cycle by cycle."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vocabtrim.core.ceiling import GAMMAS, Generations, ceiling
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.vocab import DraftVocab

EOS = 0


def ids_of(*tokens: int) -> NDArray[np.int64]:
    return np.array(tokens, dtype=np.int64)


def turns_of(document: list[int]) -> list[list[int]]:
    """Cut behind every end of sequence."""
    cuts = [0, *(i + 1 for i, token in enumerate(document) if token == EOS), len(document)]
    return [document[start:stop] for start, stop in pairwise(cuts) if stop > start]


def walk(text: list[int], kept: set[int], gamma: int) -> list[tuple[int, int, int]]:
    """Decode as a perfect drafter over `kept` would; (drafted, accepted, emitted) a cycle.

    A text that its end of sequence ended could have gone on; one that was cut
    off had no token left.
    """
    at, cycles = 1, []
    budget = None if text[-1] == EOS else len(text)
    while at < len(text):
        room = gamma if budget is None else min(gamma, budget - at - 1)
        accepted = 0
        eos = False
        for token in text[at : at + room]:
            if token not in kept:
                break
            accepted += 1
            if token == EOS:
                eos = True
                break
        emitted = accepted if eos else accepted + 1
        cycles.append((accepted if eos else room, accepted, emitted))
        at += emitted
    assert at == len(text)
    return cycles


texts = st.lists(st.lists(st.integers(0, 5), max_size=40), max_size=5)


@settings(deadline=None)
@given(texts, st.sets(st.integers(0, 5), min_size=1), st.integers(1, 9))
def test_equals_the_walk(documents: list[list[int]], kept: set[int], gamma: int) -> None:
    walked = [
        cycle for one in documents for text in turns_of(one) for cycle in walk(text, kept, gamma)
    ]
    generations = Generations.of([ids_of(*one) for one in documents], ends=[EOS])
    (found,) = ceiling(generations, DraftVocab.from_ids(sorted(kept), 6), [gamma])
    assert found == AcceptCounts.of_cycles(gamma, walked)


def test_a_worked_text() -> None:
    # 9 is outside; the first token is the prefill's
    text = ids_of(9, 1, 2, 9, 1, 9, 9, 1, 2, 3, 1)
    vocab = DraftVocab.from_ids([1, 2, 3], 10)
    (counts,) = ceiling(Generations.of([text]), vocab, [2])
    # 1 2 9 | 1 9 | 9 | 1 2 3 | 1
    assert counts.cycles == 5
    assert counts.block_efficiency == 2.0
    np.testing.assert_array_equal(counts.accepted, [2, 1, 2])
    np.testing.assert_array_equal(counts.drafted, [1, 0, 4])


def test_bursts_cost_less_than_coverage_says() -> None:
    vocab = DraftVocab.from_ids([1], 10)
    spread = Generations.of([ids_of(1, *[9, 1, 1, 1, 1] * 20)])
    bursts = Generations.of([ids_of(1, *[9] * 20, *[1] * 80)])
    ceilings = [ceiling(one, vocab, [4])[0].block_efficiency for one in (spread, bursts)]
    assert ceilings == [pytest.approx(100 / 21), pytest.approx(100 / 36)]
    alternating = Generations.of([ids_of(1, *[9, 9, 1, 1, 1, 1, 1, 1, 1, 1] * 10)])
    together = ceiling(alternating, vocab, [4])[0].block_efficiency
    assert together == pytest.approx(100 / 31)


def test_the_full_vocabulary_gives_gamma_plus_one() -> None:
    text = np.arange(1, 1 + 1 + 9 * 10 * 8 * 7) % 50 + 1
    for counts in ceiling(Generations.of([text.astype(np.int64)]), DraftVocab.full(51)):
        if counts.tokens % (counts.gamma + 1) == 0:
            assert counts.block_efficiency == counts.gamma + 1
    assert len(ceiling(Generations.of([text.astype(np.int64)]), DraftVocab.full(51))) == len(GAMMAS)


def test_turns_are_generated_one_by_one() -> None:
    two_turns = ids_of(1, 1, 1, EOS, 1, 1, 1, EOS)
    vocab = DraftVocab.from_ids([EOS, 1], 2)
    (apart,) = ceiling(Generations.of([two_turns], ends=[EOS]), vocab, [7])
    (together,) = ceiling(Generations.of([two_turns]), vocab, [7])
    assert (apart.cycles, apart.tokens) == (2, 6)
    assert (together.cycles, together.tokens) == (1, 7)
    # the end of sequence is accepted as a draft, and there is no bonus token
    np.testing.assert_array_equal(apart.accepted, [0, 0, 0, 2, 0, 0, 0, 0])


def test_texts_of_one_token_have_no_cycle() -> None:
    generations = Generations.of([ids_of(3), ids_of(), ids_of(EOS)], ends=[EOS])
    (counts,) = ceiling(generations, DraftVocab.full(4), [3])
    assert counts.cycles == 0
    assert counts.block_efficiency is None


def test_ids_beyond_v_are_refused() -> None:
    generations = Generations.of([ids_of(1, 7)])
    with pytest.raises(CalibrationError, match="over 5 ids"):
        ceiling(generations, DraftVocab.full(5))
    with pytest.raises(CalibrationError, match="1 or more"):
        ceiling(generations, DraftVocab.full(8), [4, 0])


def test_a_million_tokens_take_seconds() -> None:
    generator = np.random.default_rng(7)
    ids = (generator.pareto(0.6, 1_000_000) * 10).astype(np.int64) % 32_000
    generations = Generations.of(np.split(ids, 2000))
    began = time.process_time()
    for rows in range(1000, 11_000, 1000):
        ceiling(generations, DraftVocab.from_ids(np.arange(rows), 32_000))
    # about 0.4 s; the bound only tells closed forms from loops over tokens
    assert time.process_time() - began < 8
