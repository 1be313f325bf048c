"""The chosen K is the first of all that keeps enough, found the plain way too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.ceiling import Generations, ceiling
from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import VocabError
from vocabtrim.core.vocab import ROW_MULTIPLE, DraftVocab
from vocabtrim.pipeline.fitting.choice import LOSS, asked_for, entering, kept, smallest
from vocabtrim.pipeline.fitting.sample import HeldOutTraffic
from vocabtrim.rules.base import Evidence

V = 1000


def traffic(seed: int, *, spread: float, documents: int = 30) -> HeldOutTraffic:
    """Draw text by Zipf's law (evenly for 0), some of it counted and some of it held out."""
    generator = np.random.default_rng(seed)
    ids = generator.permutation(V)

    def text() -> np.ndarray:
        if spread == 0:
            return generator.integers(V, size=80)
        return ids[np.minimum(generator.zipf(spread, 80) - 1, V - 1)]

    times = np.bincount(np.concatenate([text() for _ in range(200)]), minlength=V)
    counts = TokenCounts(
        times, np.minimum(times, 200), 200, "sha256:t", SpecialIds(eos=(int(ids[0]),))
    )
    return HeldOutTraffic(Generations.of([text() for _ in range(documents)]), documents, counts)


def tau(given_traffic: HeldOutTraffic, held: DraftVocab, rows: int, gamma: int) -> float:
    order = entering(Evidence(given_traffic.others), held)
    vocab = DraftVocab.from_ids(order[:rows], V)
    (found,) = ceiling(given_traffic.generations, vocab, [gamma])
    assert found.block_efficiency is not None
    return found.block_efficiency


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    spread=st.sampled_from([1.2, 1.6, 2.5]),
    gamma=st.integers(1, 8),
    reduced=st.booleans(),
)
def test_it_is_the_first_that_keeps_enough(
    seed: int, spread: float, gamma: int, reduced: bool
) -> None:
    drawn = traffic(seed, spread=spread)
    held = DraftVocab.full(V)
    if reduced:
        held = DraftVocab.from_ids(np.random.default_rng(seed).permutation(V)[:500], V)
    chosen = smallest(drawn, held, gamma)
    full = tau(drawn, held, held.size, gamma)
    sizes = [*range(ROW_MULTIPLE, held.size, ROW_MULTIPLE), held.size]
    plain = next(K for K in sizes if tau(drawn, held, K, gamma) >= (1 - LOSS) * full)
    assert plain == chosen.K
    assert dict(chosen.ceilings)[held.size] == full
    assert chosen.ceilings == tuple(sorted(chosen.ceilings))
    assert chosen.trims == (chosen.K / held.size <= 0.9)


def test_kept_ids_come_first_and_padding_never() -> None:
    drawn = traffic(0, spread=1.6)
    padded = DraftVocab.full(V + 64)
    order = entering(Evidence(drawn.others), padded)
    assert sorted(order.tolist()) == list(range(V))
    assert order[0] == drawn.others.special.eos[0]


def test_it_says_when_fewer_rows_are_not_worth_it() -> None:
    drawn = traffic(1, spread=0)
    chosen = smallest(drawn, DraftVocab.full(V), 4)
    assert not chosen.trims
    assert "more traffic may bring that down" in chosen.reason


@pytest.mark.parametrize("gamma", [1, 4])
def test_the_reason_has_the_figures(gamma: int) -> None:
    drawn = traffic(2, spread=2.5)
    chosen = smallest(drawn, DraftVocab.full(V), gamma)
    found = dict(chosen.ceilings)
    assert f"{found[chosen.K]:.2f} of {found[V]:.2f}" in chosen.reason
    assert f"γ = {gamma} on 30 documents" in chosen.reason


class TestAskedFor:
    """K as somebody says it, held to the ids of the head."""

    evidence = Evidence(traffic(0, spread=1.6).others)

    def test_it_is_rounded_up_within_the_ids(self) -> None:
        held = DraftVocab.full(V + 64)
        assert [asked_for(K, self.evidence, held, 2).K for K in (1, 64, 65, 970, V)] == [
            *(64, 64, 128),
            *(V, V),
        ]
        assert asked_for(1, self.evidence, held, 2).gamma == 2

    @pytest.mark.parametrize("K", [0, V + 1])
    def test_it_is_within_the_ids(self, K: int) -> None:
        with pytest.raises(VocabError, match=f"between 1 and the {V} ids there are, found {K}"):
            asked_for(K, self.evidence, DraftVocab.full(V + 64), 2)

    def test_a_reduced_head_has_fewer(self) -> None:
        held = DraftVocab(np.arange(100), V)
        assert asked_for(65, self.evidence, held, 2).K == 100
        with pytest.raises(VocabError, match="the 100 ids there are, found 101"):
            asked_for(101, self.evidence, held, 2)

    def test_what_must_be_kept_has_room(self) -> None:
        special = SpecialIds(eos=tuple(range(100)))
        counts = replace(self.evidence.counts, special=special)
        with pytest.raises(VocabError, match=r"K = 64 is smaller than the 100 ids .* ask for 100"):
            asked_for(64, Evidence(counts), DraftVocab.full(V), 2)
        assert asked_for(65, Evidence(counts), DraftVocab.full(V), 2).K == 128
        # of what must be kept the head has some
        half = DraftVocab(np.arange(40, V), V)
        assert asked_for(64, Evidence(counts), half, 2).K == 64
        assert kept(counts, half).tolist() == list(range(40, 100))
