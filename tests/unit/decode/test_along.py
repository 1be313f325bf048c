"""Drafting along a text at once against drafting from each position in turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tiny_models import V, random_ids, tiny_model
from tests.tiny_pairs import LAYERS, eagle_drafter, fresh_features, lm_drafter
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.along import states_along

PROMPT, NEW = random_ids(7, seed=1), random_ids(9, seed=2)
DEPTHS = 4


def in_turn(drafter: Any, features: torch.Tensor | None) -> list[torch.Tensor]:
    """Return what the head reads from each start, one start after the other."""
    text, states = [*PROMPT, *NEW], []
    for start in range(len(NEW) - 1):
        committed = len(PROMPT) + start + 1
        drafter.begin(len(text))
        drafter.commit(text[:committed], None if features is None else features[: committed - 1])
        states.append(drafter.follow(NEW[start + 1 : start + DEPTHS]))
    return states


def test_eagle_goes_on_from_its_own_features() -> None:
    model = tiny_model().double()
    drafter = eagle_drafter(model, DraftVocab.full(V))
    features = fresh_features(model, [*PROMPT, *NEW[:-2]], LAYERS)
    found = states_along(drafter, PROMPT, NEW, features, DEPTHS)
    assert found.shape == (len(NEW) - 1, DEPTHS, 32)
    for start, states in enumerate(in_turn(drafter, features)):
        inside = min(DEPTHS, len(NEW) - 1 - start)
        assert torch.allclose(found[start, :inside], states[:inside], rtol=1e-10, atol=1e-12)
    # depth is no mere shift: own features are others than the target's
    assert not torch.allclose(found[0, 1], found[1, 0], rtol=1e-3)


def test_an_independent_drafter_reads_the_text_once() -> None:
    drafter = lm_drafter(tiny_model(seed=4).double(), DraftVocab.full(V))
    found = states_along(drafter, PROMPT, NEW, None, DEPTHS)
    assert found.shape == (len(NEW) - 1, 1, 32)
    for start, states in enumerate(in_turn(drafter, None)):
        for depth in range(min(DEPTHS, len(NEW) - 1 - start)):
            assert torch.allclose(found[start + depth, 0], states[depth], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [None, 3])
def test_missing_features_are_said(count: int | None) -> None:
    model = tiny_model()
    drafter = eagle_drafter(model, DraftVocab.full(V))
    features = None if count is None else fresh_features(model, PROMPT[:count], LAYERS)
    with pytest.raises(DecodeError, match="14 tokens need as many features"):
        states_along(drafter, PROMPT, NEW, features, DEPTHS)


def test_another_kind_of_drafter_is_refused() -> None:
    class Other:
        pass

    with pytest.raises(DecodeError, match="cannot be drafted along with a Other"):
        states_along(Other(), PROMPT, NEW, None, DEPTHS)  # type: ignore[arg-type]
