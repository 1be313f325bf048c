"""A target of twelve ids and models that are it out of tune, with the exact law of its texts.

Target and drafters share a preference for some ids, so that drafts are accepted
neither always nor never.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.distributions import Joint, joint_of
from tests.tiny_models import H, tiny_model
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.sampling import Sampling, distribution

V, LENGTH, EOS, SEED = 12, 3, 2, 33
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


def out_of_tune() -> Any:
    """Return the target with other weights, as a drafter."""
    model, generator = skewed_model(), torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * weight.std() * torch.randn(weight.shape, generator=generator))
    return model


MODEL = skewed_model()


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


def vocabulary(name: str) -> DraftVocab:
    """Return one of `VOCABS`."""
    return DraftVocab.from_ids(sorted(VOCABS[name]), V)
