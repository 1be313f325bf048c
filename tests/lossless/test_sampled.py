"""The whole decoder: 20,000 sampled texts of a tiny model against their exact law.

Target and drafters share a preference for some ids, so that drafts are accepted
neither always nor never; that is asserted, for otherwise nothing would be shown.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
import torch

from tests.distributions import FALSE_ALARM, MOST_TESTS, Joint, joint_of, p_value
from tests.lossless.planted import FAULTS, Rule
from tests.tiny_models import H, tiny_model
from tests.tiny_pairs import EAGLE_CONFIG, LAYERS, eagle_tensors, lm_drafter, reduced
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode import chain
from vocabtrim.decode.chain import speculate_together
from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
from vocabtrim.decode.sampling import Sampling, distribution
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request

pytestmark = pytest.mark.proof

V, N, ROWS, LENGTH, EOS, SEED = 12, 20_000, 5_000, 3, 2, 33
PROMPT = (3, 7, 5, 11)
Texts = list[tuple[int, ...]]


def skewed_model() -> Any:
    """Return a random target in which each id has a likelihood of its own, whatever precedes."""
    model = tiny_model(vocab_size=V, seed=SEED, initializer_range=0.15, eos_token_id=EOS)
    generator = torch.Generator().manual_seed(SEED)
    shared = torch.randint(0, 2, (H,), generator=generator) * 2.0 - 1.0
    with torch.no_grad():
        model.get_input_embeddings().weight += 0.5 * shared
        liking = torch.randn(V, 1, generator=generator)
        model.get_output_embeddings().weight += 0.07 * liking * shared
    return model


MODEL = skewed_model()


def independent(vocab: DraftVocab) -> Any:
    """Return the target over a draft vocabulary, its weights out of tune."""
    model, generator = skewed_model(), torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * weight.std() * torch.randn(weight.shape, generator=generator))
    return lm_drafter(model, vocab)


def eagle3(vocab: DraftVocab) -> Any:
    """Return a random drafter that leans on the target's last hidden state."""
    tensors = eagle_tensors(SEED)
    last = torch.cat([torch.zeros(H, 2 * H), torch.eye(H)], dim=1)
    tensors["fc.weight"] = last + 0.05 * tensors["fc.weight"]
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        tensors[f"midlayer.{name}.weight"] *= 0.5
    embeddings = MODEL.get_input_embeddings().weight.detach()
    return Eagle3Drafter(EAGLE_CONFIG, tensors, embeddings, reduced(MODEL, vocab), LAYERS)


@torch.no_grad()
def logits_behind(prefix: tuple[int, ...]) -> torch.Tensor:
    """Return the target's logits [1, V] from a pass of its own."""
    logits: torch.Tensor = MODEL(torch.tensor([[*PROMPT, *prefix]]), use_cache=False).logits
    return logits[:, -1]


def exact(sampling: Sampling) -> Joint:
    """Return the joint distribution of the first tokens, by passes without cache or drafts."""

    def following(prefix: tuple[int, ...]) -> np.ndarray:
        row: np.ndarray = distribution(logits_behind(prefix).double(), sampling)[0].numpy()
        return row

    return joint_of(following, LENGTH, [EOS])


def texts(
    drafter: Any, gamma: int, sampling: Sampling, *, greedy_drafts: bool = False
) -> tuple[Texts, AcceptCounts]:
    """Decode N texts; return their first tokens and what was accepted."""
    target = Target(MODEL, drafter.feature_layers if drafter else ())
    done = []
    for start in range(0, N, ROWS):
        requests = [Request(f"{key}", PROMPT, LENGTH + gamma) for key in range(start, start + ROWS)]
        done += speculate_together(
            target, drafter, requests, gamma=gamma, sampling=sampling, greedy_drafts=greedy_drafts
        )
    return [one.token_ids[:LENGTH] for one in done], reduce(add, (one.counts for one in done))


def likely() -> list[int]:
    """Return all ids, those first that are likeliest as the second token."""
    first = torch.softmax(logits_behind(()), dim=-1)[0]
    second = torch.cat([torch.softmax(logits_behind((token,)), dim=-1) for token in range(V)])
    order: list[int] = (first @ second).argsort(descending=True).tolist()
    return order


ORDER = likely()
VOCABS = {
    "K=1": ORDER[:1],
    "K=2 without the likeliest": ORDER[1:3],
    "K=4": [*ORDER[:6:2], ORDER[8]],
    "K=11 without the likeliest": ORDER[1:],
    "K=V": ORDER,
}
SAMPLINGS = [
    Sampling(1.0),
    Sampling(0.7, top_k=6, seed=1),
    Sampling(1.4, top_p=0.8, seed=2),
    Sampling(1.1, top_k=8, top_p=0.9, seed=3),
]
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


def vocabulary(name: str) -> DraftVocab:
    return DraftVocab.from_ids(sorted(VOCABS[name]), V)


def require_drafts_of_both_kinds(counts: AcceptCounts) -> None:
    at_once = counts.acceptance_by_position[0]
    assert at_once is not None
    assert 0.2 <= at_once <= 0.8
    assert min(counts.accepted) > 0


def test_the_family_is_small_enough_for_its_false_alarms() -> None:
    assert len(CASES) + len(GREEDY_DRAFTS) + len(SAMPLINGS) <= MOST_TESTS


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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("make", [independent, eagle3])
def test_a_planted_fault_is_found(make: Any, fault: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "verify_sampled", fault)
    sampling = Sampling(0.7, top_p=0.95)
    sample, _ = texts(make(vocabulary("K=11 without the likeliest")), 1, sampling)
    assert p_value(sample, exact(sampling)) < FALSE_ALARM
