"""One reading gives, for every nested vocabulary, what decoding with it comes to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny_models import V, random_ids, tiny_model
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.drafters.independent import IndependentDrafter
from vocabtrim.decode.target import Target
from vocabtrim.replay.nested import NestedHead, NestedRuns, nested_runs

SIZES = (1, 5, 20, 60, V)


@pytest.fixture(scope="module")
def pair() -> tuple[object, object]:
    """A target, and a drafter that mostly agrees with it."""
    target, drafter = tiny_model(seed=3), tiny_model(seed=3)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in drafter.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return target, drafter


@pytest.mark.parametrize("gamma", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_replay_equals_decoding(pair: tuple[object, object], gamma: int, seed: int) -> None:
    model, small = pair
    order = np.random.default_rng(seed).permutation(V)
    weight = small.get_output_embeddings().weight
    full = IndependentDrafter(small.model, ReducedHead(weight, DraftVocab.full(V)))
    prompt, budget = random_ids(6, seed=seed), 30
    plain = Target(model)
    text = speculate(plain, None, prompt, gamma=0, max_new_tokens=budget).token_ids
    runs = nested_runs(
        plain,
        full,
        NestedHead(full.head, order, SIZES),
        prompt,
        text,
        gamma=gamma,
        budget=budget,
    )
    taus = set()
    for size in SIZES:
        vocab = DraftVocab.from_ids(order[:size], V)
        head = ReducedHead(weight[torch.from_numpy(vocab.ids.copy())], vocab)
        decoded = speculate(
            plain,
            IndependentDrafter(small.model, head),
            prompt,
            gamma=gamma,
            max_new_tokens=budget,
        )
        assert decoded.token_ids == text
        assert runs.counts(size) == decoded.counts
        taus.add(decoded.counts.block_efficiency)
    assert len(taus) > 1, "all vocabularies accept alike, so this proves nothing"


def test_an_eos_inside_a_draft_ends_the_walk_without_a_bonus() -> None:
    # 4 tokens, the last an EOS, with room for more: one cycle drafts 4, and 3 count
    runs = NestedRuns((9,), np.array([[3, 2, 1]]), gamma=4, budget=20)
    counts = runs.counts(9)
    assert (counts.cycles, counts.tokens, counts.n_drafted) == (1, 3, 3)


def test_a_budget_that_ends_shortens_the_last_draft() -> None:
    runs = NestedRuns((9,), np.array([[3, 2, 1]]), gamma=4, budget=4)
    counts = runs.counts(9)
    # drafts 2 of the 3 left, and the target adds the last
    assert (counts.cycles, counts.tokens, counts.n_drafted, counts.n_accepted) == (1, 3, 2, 2)


def test_a_text_of_one_token_has_no_cycle(pair: tuple[object, object]) -> None:
    model, small = pair
    weight = small.get_output_embeddings().weight
    full = IndependentDrafter(small.model, ReducedHead(weight, DraftVocab.full(V)))
    head = NestedHead(full.head, np.arange(V), SIZES)
    runs = nested_runs(Target(model), full, head, [5, 6], [7], gamma=2, budget=9)
    assert runs.counts(5).cycles == 0
