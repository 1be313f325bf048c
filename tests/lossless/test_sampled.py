"""The whole decoder: 20,000 sampled texts of a tiny model against their exact law.

Target and drafters share a preference for some ids, so that drafts are accepted
neither always nor never; that is asserted, for otherwise nothing would be shown.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import pytest
import torch

from tests.distributions import FALSE_ALARM, MOST_TESTS, p_value
from tests.lossless.planted import FAULTS, Rule
from tests.lossless.skewed_pair import (
    LENGTH,
    MODEL,
    PROMPT,
    SAMPLINGS,
    SEED,
    VOCABS,
    Texts,
    exact,
    out_of_tune,
    vocabulary,
)
from tests.tiny_models import H
from tests.tiny_pairs import EAGLE_CONFIG, LAYERS, eagle_tensors, lm_drafter, reduced
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode import chain
from vocabtrim.decode.chain import speculate_together
from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
from vocabtrim.decode.sampling import Sampling
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request

pytestmark = pytest.mark.proof

N, ROWS = 20_000, 5_000


def independent(vocab: DraftVocab) -> Any:
    """Return the target over a draft vocabulary, its weights out of tune."""
    return lm_drafter(out_of_tune(), vocab)


def eagle3(vocab: DraftVocab) -> Any:
    """Return a random drafter that leans on the target's last hidden state."""
    tensors = eagle_tensors(SEED)
    last = torch.cat([torch.zeros(H, 2 * H), torch.eye(H)], dim=1)
    tensors["fc.weight"] = last + 0.05 * tensors["fc.weight"]
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        tensors[f"midlayer.{name}.weight"] *= 0.5
    embeddings = MODEL.get_input_embeddings().weight.detach()
    return Eagle3Drafter(EAGLE_CONFIG, tensors, embeddings, reduced(MODEL, vocab), LAYERS)


def texts(
    drafter: Any, gamma: int, sampling: Sampling, **options: Any
) -> tuple[Texts, AcceptCounts]:
    """Decode N texts; return their first tokens and what was accepted."""
    target = Target(MODEL, drafter.feature_layers if drafter else ())
    done = []
    for start in range(0, N, ROWS):
        requests = [Request(f"{key}", PROMPT, LENGTH + gamma) for key in range(start, start + ROWS)]
        done += speculate_together(
            target, drafter, requests, gamma=gamma, sampling=sampling, **options
        )
    return [one.token_ids[:LENGTH] for one in done], reduce(add, (one.counts for one in done))


# the prefill gives the first token, so a bonus token is among the first three at gamma 1 alone,
# and drafts of depth 2 from gamma 2 on; every gamma meets every vocabulary and every sampling
CASES = [
    (make, name, sampling, 1 + (row + column + shift) % 3)
    for shift, make in enumerate((independent, eagle3))
    for row, name in enumerate(VOCABS)
    for column, sampling in enumerate(SAMPLINGS)
]
GREEDY_DRAFTS = [
    (make, name, SAMPLINGS[index % 4], 1 + index % 2)
    for index, (make, name) in enumerate(
        (make, name) for make in (independent, eagle3) for name in ("K=4", "K=V")
    )
]


def require_drafts_of_both_kinds(counts: AcceptCounts) -> None:
    at_once = counts.acceptance_by_position[0]
    assert at_once is not None
    assert 0.2 <= at_once <= 0.8
    assert min(counts.accepted) > 0


def test_the_family_is_small_enough_for_its_false_alarms() -> None:
    assert len(CASES) + len(GREEDY_DRAFTS) + len(SAMPLINGS) + 4 <= MOST_TESTS


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_without_drafts(sampling: Sampling) -> None:
    sample, _ = texts(None, 0, sampling)
    assert p_value(sample, exact(sampling)) > FALSE_ALARM


@pytest.mark.parametrize(("make", "name", "sampling", "gamma"), CASES)
def test_with_drafts_drawn_from_q(make: Any, name: str, sampling: Sampling, gamma: int) -> None:
    sample, counts = texts(make(vocabulary(name)), gamma, sampling)
    assert p_value(sample, exact(sampling)) > FALSE_ALARM
    require_drafts_of_both_kinds(counts)


@pytest.mark.parametrize(("make", "name", "sampling", "gamma"), GREEDY_DRAFTS)
def test_with_the_likeliest_drafts(make: Any, name: str, sampling: Sampling, gamma: int) -> None:
    sample, counts = texts(make(vocabulary(name)), gamma, sampling, greedy_drafts=True)
    assert p_value(sample, exact(sampling)) > FALSE_ALARM
    require_drafts_of_both_kinds(counts)


@pytest.mark.parametrize("make", [independent, eagle3])
@pytest.mark.parametrize("greedy_drafts", [False, True])
def test_with_drafts_that_end_where_the_drafter_is_not_sure(make: Any, greedy_drafts: bool) -> None:
    sampling, options = SAMPLINGS[3], {"greedy_drafts": greedy_drafts}
    drafter = make(vocabulary("K=4"))
    sample, counts = texts(drafter, 3, sampling, confidence=0.5, **options)
    assert p_value(sample, exact(sampling)) > FALSE_ALARM
    assert min(counts.drafted) > 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("make", [independent, eagle3])
def test_a_planted_fault_is_found(make: Any, fault: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "verify_sampled", fault)
    sampling = Sampling(0.7, top_p=0.95)
    sample, _ = texts(make(vocabulary("K=11 without the likeliest")), 1, sampling)
    assert p_value(sample, exact(sampling)) < FALSE_ALARM
