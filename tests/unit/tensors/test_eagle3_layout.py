"""Two layouts, and two ways to count layers: told apart, and written as each is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import edit, tiny_eagle3, tiny_lm, tiny_speculators
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import (
    FEATURE_KEY,
    Counting,
    Layout,
    feature_layers,
    is_eagle3,
    layer_prefix,
    layout_of,
    stated_layers,
    with_layers,
)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (2, 15, 27)),
        ({"eagle_config": None}, (2, 15, 27)),
        ({"eagle_config": {"use_aux_hidden_state": True}}, (2, 15, 27)),
        ({FEATURE_KEY: [1, 14, 26]}, (1, 14, 26)),
        ({"eagle_config": {FEATURE_KEY: [1, 14, 26]}}, (2, 15, 27)),
        ({FEATURE_KEY: [2, 15, 27], "eagle_config": {FEATURE_KEY: [1, 14, 26]}}, (2, 15, 27)),
    ],
)
def test_which_hidden_states_are_read(config: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert feature_layers(config, 30) == expected


def test_a_config_that_says_two_things_is_refused() -> None:
    config = {FEATURE_KEY: [1, 14, 26], "eagle_config": {FEATURE_KEY: [1, 14, 26]}}
    with pytest.raises(CheckpointError, match=r"the inputs \[2, 15, 27\]; remove the list"):
        stated_layers(config)


def test_an_empty_list_states_none() -> None:
    assert stated_layers({FEATURE_KEY: [], "eagle_config": {FEATURE_KEY: []}}) is None
    assert stated_layers({FEATURE_KEY: [2, 3], "eagle_config": {FEATURE_KEY: []}}) == (2, 3)


@pytest.mark.parametrize("stated", ["2,3", [2.0], [True], 5])
def test_layers_are_integers(stated: object) -> None:
    with pytest.raises(CheckpointError, match="must be a list of integers, found"):
        stated_layers({FEATURE_KEY: stated})


@pytest.mark.parametrize("counting", list(Counting))
def test_what_is_written_is_read_back_and_stated_as_asked(counting: Counting) -> None:
    for before in ({}, {FEATURE_KEY: [3, 4, 5]}, {"eagle_config": {FEATURE_KEY: [0, 1, 2]}}):
        written = with_layers({"vocab_size": 9, **before}, (1, 5, 11), counting)
        assert stated_layers(written) == (1, 5, 11)
        nested = written.get("eagle_config", {})
        assert (FEATURE_KEY in written) is (counting is not Counting.OUTPUTS)
        assert (FEATURE_KEY in nested) is (counting is not Counting.INPUTS)
        assert written["vocab_size"] == 9
        unstated = with_layers(written, None, counting)
        assert stated_layers(unstated) is None


def test_engines_that_count_outputs_are_told_one_less() -> None:
    """Layers that are nobody's default, so that no reader is right by chance."""
    written = with_layers({FEATURE_KEY: [1, 5, 11]}, (1, 5, 11), Counting.OUTPUTS)
    assert written["eagle_config"] == {"use_aux_hidden_state": True, FEATURE_KEY: [0, 4, 10]}


def test_other_switches_stay() -> None:
    config = {"eagle_config": {"use_last_layernorm": True, FEATURE_KEY: [0, 4, 10]}}
    written = with_layers(config, stated_layers(config), Counting.INPUTS)
    assert written == {FEATURE_KEY: [1, 5, 11], "eagle_config": {"use_last_layernorm": True}}


def test_the_embedding_is_the_output_of_no_layer() -> None:
    with pytest.raises(CheckpointError, match=r"\[0, 2\] include the embedding"):
        with_layers({}, (0, 2), Counting.OUTPUTS)
    assert with_layers({}, (0, 2), Counting.INPUTS)[FEATURE_KEY] == [0, 2]


def test_drafters_are_recognised_in_both_layouts(tmp_path: Path) -> None:
    flat = Checkpoint.open(tiny_eagle3(tmp_path / "flat"))
    nested = Checkpoint.open(tiny_speculators(tmp_path / "nested"))
    assert is_eagle3(flat)
    assert is_eagle3(nested)
    assert [layout_of(one.config) for one in (flat, nested)] == list(Layout)
    assert [layer_prefix(list(one.tensors)) for one in (flat, nested)] == ["midlayer.", "layers.0."]


def test_what_looks_like_it_but_is_not(tmp_path: Path) -> None:
    mask = {"mask_hidden": np.zeros((1, 1, 4), np.float32)}
    others = [
        edit(tiny_eagle3(tmp_path / "1"), drop=["midlayer.hidden_norm.weight"]),
        edit(tiny_eagle3(tmp_path / "p"), add=mask),
        edit(tiny_eagle3(tmp_path / "s"), forget=["hidden_size"]),
        edit(tiny_speculators(tmp_path / "o"), config={"speculators_model_type": "peagle"}),
        tiny_lm(tmp_path / "lm"),
    ]
    assert not any(is_eagle3(Checkpoint.open(directory)) for directory in others)
