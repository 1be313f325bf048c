"""Rows of a drafter do not know of one another: each drafts what it would alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tiny_models import KINDS, V, random_ids, tiny_model
from tests.tiny_pairs import LAYERS, eagle_drafter, fresh_features, lm_drafter, vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.drafters.base import propose

MODELS = {kind: tiny_model(kind) for kind in KINDS}
TEXTS = [random_ids(length, seed=length) for length in (9, 2, 17, 5)]


def make(family: str, kind: str) -> Any:
    drafter = eagle_drafter if family == "eagle3" else lm_drafter
    return drafter(MODELS[kind], vocabulary(40))


def features(family: str, kind: str, ids: list[int]) -> torch.Tensor | None:
    return fresh_features(MODELS[kind], ids[:-1], LAYERS) if family == "eagle3" else None


def commit(drafter: Any, family: str, kind: str, text: list[int], new: int, row: int) -> None:
    """Commit the last `new` tokens of a text."""
    known = features(family, kind, text)
    if known is not None and new < len(text):
        known = known[-new:]
    drafter.commit(text[-new:], known, row)


def alone(family: str, kind: str, text: list[int], length: int) -> list[int]:
    drafter = make(family, kind)
    drafter.begin(60)
    drafter.commit(text, features(family, kind, text))
    draft: list[int] = drafter.propose(length)
    return draft


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["eagle3", "independent"])
def test_each_row_drafts_what_it_would_alone(family: str, kind: str) -> None:
    drafter = make(family, kind)
    drafter.begin(60, 4)
    drafter.keep(())
    drafter.open(3)
    texts = [list(text) for text in TEXTS[:3]]
    for row, text in enumerate(texts):
        commit(drafter, family, kind, text, len(text), row)
    lengths = [3, 1, 2]
    ids = propose(drafter, lengths).ids
    assert ids.shape == (3, 3)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        assert ids[row, :length].tolist() == alone(family, kind, text, length)
    before = drafter.cache.lengths
    # a row leaves, a new one comes, and the others go on by different numbers of tokens
    drafter.keep([0, 2])
    assert drafter.cache.lengths == (before[0], before[2])
    drafter.open(1)
    texts = [[*texts[0], 7], [*texts[2], 8, 9, 10], list(TEXTS[3])]
    for row, (text, new) in enumerate(zip(texts, (1, 3, 5), strict=True)):
        commit(drafter, family, kind, text, new, row)
    ids = propose(drafter, [2, 2, 2]).ids
    for row, text in enumerate(texts):
        assert ids[row].tolist() == alone(family, kind, text, 2)
    # asked again, with nothing new committed, it says the same
    assert torch.equal(propose(drafter, [2, 2, 2]).ids, ids)
    drafter.keep([1])
    assert drafter.propose(2) == ids[1].tolist()


@pytest.mark.parametrize("family", ["eagle3", "independent"])
def test_long_prompts_are_not_read_beside_single_tokens(family: str) -> None:
    drafter = make(family, "llama")
    drafter.begin(60, 2)
    drafter.keep(())
    drafter.open(1)
    commit(drafter, family, "llama", TEXTS[0], len(TEXTS[0]), 0)
    drafter.propose(1)
    drafter.open(1)
    commit(drafter, family, "llama", [*TEXTS[0], 7], 1, 0)
    commit(drafter, family, "llama", TEXTS[2], len(TEXTS[2]), 1)
    widths = []
    place = drafter.cache.place
    drafter.cache.place = lambda *args, **options: widths.append(args[0]) or place(*args, **options)
    propose(drafter, [1, 1])
    assert [len(counts) for counts in widths] == [1, 1]
    assert widths[0] == [1]


@pytest.mark.parametrize("family", ["eagle3", "independent"])
def test_a_row_with_nothing_committed_cannot_draft(family: str) -> None:
    drafter = make(family, "llama")
    drafter.begin(20, 2)
    commit(drafter, family, "llama", TEXTS[0], len(TEXTS[0]), 0)
    with pytest.raises(DecodeError, match="a text has no committed token to draft from"):
        propose(drafter, [1, 1])


@pytest.mark.parametrize("family", ["eagle3", "independent"])
def test_a_draft_leaves_the_cache_as_it_was(family: str) -> None:
    drafter = make(family, "llama")
    drafter.begin(60)
    commit(drafter, family, "llama", TEXTS[0], len(TEXTS[0]), 0)
    drafter.propose(1)
    lengths = drafter.cache.lengths
    before = [states.clone() for states in drafter.cache.layer(0)]
    for length in (1, 4):
        drafter.propose(length)
        drafter.follow([5, 6])
        assert drafter.cache.lengths == lengths
        assert all(map(torch.equal, drafter.cache.layer(0), before))


@pytest.mark.parametrize("family", ["eagle3", "independent"])
def test_drafters_work_in_the_targets_ids(family: str) -> None:
    assert (
        set(alone(family, "llama", TEXTS[0], 6)) <= set(vocabulary(40).ids.tolist()) < set(range(V))
    )
