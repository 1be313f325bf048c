"""Memory of a long text: what a cycle needs is there after the first few, and stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import tiny_model
from tests.tiny_pairs import EAGLE_CONFIG, LAYERS, eagle_tensors, lm_drafter, reduced
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.chain import Chain
from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
from vocabtrim.decode.sampling import Sampling
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request, Text

pytestmark = pytest.mark.proof

V, K, TOKENS, WARM_UP = 8_192, 2_048, 2_048, 256
"""One V-wide row of float32 kept for each token would come to 56 MiB."""
LONG = {"vocab_size": V, "max_position_embeddings": 4_096}


def pair(family: str) -> tuple[Any, Any]:
    """Return a target without an EOS and a drafter."""
    target = tiny_model(**LONG, eos_token_id=None)
    target.generation_config.eos_token_id = None
    vocab = DraftVocab.from_ids(range(0, V, V // K), V)
    if family == "independent":
        return target, lm_drafter(target, vocab)
    embeddings = target.get_input_embeddings().weight.detach()
    head = reduced(target, vocab)
    return target, Eagle3Drafter(EAGLE_CONFIG | LONG, eagle_tensors(0), embeddings, head, LAYERS)


def anonymous_kib() -> int:
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("family", "sampling"), [("eagle3", Sampling()), ("independent", Sampling(1.0, top_p=0.9))]
)
def test_a_text_of_2048_tokens_stays_flat_after_its_warm_up(
    family: str, sampling: Sampling
) -> None:
    model, drafter = pair(family)
    target, request = Target(model, drafter.feature_layers), Request("long", (5, 6, 7), TOKENS)
    chain = Chain(target, drafter, gamma=3, rows=1, columns=TOKENS + 3, sampling=sampling)
    text = Text(request, request.room(target))
    chain.admit([text])
    measured: dict[int, int] = {}
    places = set()
    while chain.texts:
        chain.cycle()
        places.add(drafter.cache.layer(0)[0].data_ptr())
        measured.setdefault(len(text.token_ids) // WARM_UP, anonymous_kib())
        chain.close()
    assert len(text.token_ids) == TOKENS
    assert len(places) == 1
    # pages of the caches are touched for the first time as they fill: 2 MiB in all
    assert max(measured.values()) - measured[1] < 8 * 1024, measured
