"""The names under which vLLM finds reduced heads."""

from __future__ import annotations

from vocabtrim.engines.vllm.architectures import (
    ARCHITECTURES,
    EAGLES,
    INDEPENDENT,
    OF_TARGET,
    PREDICTIONS,
    Kind,
)
from vocabtrim.engines.vllm.mtp_config import BASES
from vocabtrim.families.base import trimmed_architectures


def test_a_name_says_what_it_is_made_of() -> None:
    for name, one in INDEPENDENT.items():
        assert trimmed_architectures({"architectures": [one.stock]}, full=False) == [name]
    for name, one in EAGLES.items():
        # as vLLM names an EAGLE drafter after the class in its config
        stock = one.stock.removeprefix("Eagle")
        assert name == "Eagle" + trimmed_architectures({"architectures": [stock]}, full=False)[0]


def test_no_name_is_one_of_vllm_itself() -> None:
    assert not ARCHITECTURES.keys() & {one.stock for one in ARCHITECTURES.values()}
    assert len(ARCHITECTURES) == len(INDEPENDENT) + len(EAGLES) + len(PREDICTIONS)


def test_prediction_layers_have_a_config_that_can_be_opened() -> None:
    assert set(OF_TARGET.values()) == PREDICTIONS.keys()
    assert {one.model_type for one in PREDICTIONS.values()} == BASES.keys()
    assert {one.kind for one in PREDICTIONS.values()} == {Kind.PREDICTION}
    assert {one.kind for one in (*INDEPENDENT.values(), *EAGLES.values())} == {Kind.WHOLE}
