"""What every registered selection rule promises, third-party ones included."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any, get_type_hints

import numpy as np
import pytest

from tests.unit.rules.evidence import NONE, evidence_of
from vocabtrim.rules.base import RULES, by_counts, parse_rule, usage

PLAUSIBLE: dict[type, Any] = {int: 3, float: 0.5, bool: True, str: "x"}


@pytest.fixture(params=RULES.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def built(name: str) -> Any:
    rule = RULES.load(name)
    required = [
        f"{field.name}={PLAUSIBLE[get_type_hints(rule)[field.name]]}"
        for field in fields(rule)
        if f"{field.name}=" in usage(name) and f"{field.name}={field.default}" not in usage(name)
    ]
    return parse_rule(f"{name}:{','.join(required)}")


def test_it_is_a_frozen_dataclass_with_a_described_first_line(name: str) -> None:
    rule = RULES.load(name)
    assert is_dataclass(rule)
    assert rule.__doc__ is not None
    assert not rule.__doc__.startswith(f"{rule.__name__}(")
    instance = built(name)
    with pytest.raises(FrozenInstanceError):
        setattr(instance, fields(rule)[0].name, 1)


def test_it_keeps_the_kept_and_knows_its_tokenizer(name: str) -> None:
    kept = np.array([0, 7])
    vocab = built(name).select(evidence_of([0, 4, 9, 3, 0, 1, 2, 0]), kept)
    assert set(kept.tolist()) <= set(vocab.ids.tolist())
    assert (vocab.vocab_size, vocab.tokenizer) == (8, "t")


def test_it_gives_the_same_twice(name: str) -> None:
    evidence = evidence_of([3, 1, 4, 1, 5, 9, 2, 6])
    assert built(name).select(evidence, NONE) == built(name).select(evidence, NONE)


def test_it_follows_the_counts_unless_it_says_that_it_does_not(name: str) -> None:
    low, high = [9] * 60 + [0] * 140, [0] * 140 + [9] * 60
    chosen = [built(name).select(evidence_of(counts), NONE) for counts in (low, high)]
    assert (chosen[0] != chosen[1]) == by_counts(built(name))
