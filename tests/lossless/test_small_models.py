"""200 prompts of small models, alone and side by side: the text of `generate`, token by token.

In float64, where no rounding decides. The drafters are the target out of tune and
a random EAGLE-3 layer, so that most drafts of the one and few of the other stand.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import add
from typing import Any

import pytest
import torch

from tests.tiny_models import KINDS, V, random_ids, reference_greedy, tiny_model
from tests.tiny_pairs import eagle_drafter, lm_drafter, vocabulary
from vocabtrim.decode.chain import speculate_together
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request

pytestmark = pytest.mark.proof

REQUESTS = [
    Request(f"p{n}", tuple(random_ids(1 + (11 * n) % 37, seed=n)), 1 + (7 * n) % 24)
    for n in range(200)
]


@cache
def target(kind: str) -> Any:
    return tiny_model(kind).double()


@cache
def expected(kind: str) -> dict[str, tuple[int, ...]]:
    return {
        one.key: tuple(reference_greedy(target(kind), list(one.prompt_ids), one.max_new_tokens))
        for one in REQUESTS
    }


def out_of_tune(kind: str) -> Any:
    model, generator = tiny_model(kind).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * weight.std() * torch.randn(weight.shape, generator=generator))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["eagle3", "independent"])
@pytest.mark.parametrize(
    ("size", "gamma", "rows"),
    [(48, 3, 1), *((size, *one) for size in (1, 48, V) for one in ((1, 8), (3, 50), (6, 8)))],
)
def test_every_text_is_that_of_generate(
    kind: str, family: str, size: int, gamma: int, rows: int
) -> None:
    model = target(kind)
    drafter: Any = (
        eagle_drafter(model, vocabulary(size))
        if family == "eagle3"
        else lm_drafter(out_of_tune(kind), vocabulary(size))
    )
    reader = Target(model, drafter.feature_layers)
    done = []
    for start in range(0, len(REQUESTS), rows):
        done += speculate_together(reader, drafter, REQUESTS[start : start + rows], gamma=gamma)
    for request, text in zip(REQUESTS, done, strict=True):
        assert text.token_ids == expected(kind)[request.key], request.key
    counts = reduce(add, (text.counts for text in done))
    assert counts.n_accepted < counts.n_drafted
    if family == "independent" and size > 1:
        assert min(counts.accepted) > 0
