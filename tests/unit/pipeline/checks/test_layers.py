"""Feature layers: which are everybody's default, and who reads them where they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import LAYERS, modelopt, specforge, speculators, target
from tests.tiny import edit
from vocabtrim.pipeline.checks import layers
from vocabtrim.pipeline.checks.base import Finding, Severity
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path, verifier: Path | None = None) -> Subject:
    opened = None if verifier is None else Verifier(Checkpoint.open(verifier))
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path), target=opened)


@pytest.mark.parametrize("depth", [4, 8, 16, 28, 30, 32, 61, 80])
def test_the_default_is_known_without_the_target(depth: int) -> None:
    default = [2, depth // 2, depth - 3]
    assert layers.is_default(default, None)
    assert not layers.is_default([1, *default[1:]], None)
    assert not layers.is_default([2, default[1] - 1, default[2]], None)


def test_the_target_says_which_default(tmp_path: Path) -> None:
    verifier = Verifier(Checkpoint.open(target(tmp_path / "t")))
    assert layers.is_default([2, 4, 5], verifier)
    assert layers.is_default([2, 16, 29], None)
    assert not layers.is_default([2, 16, 29], verifier)


def test_default_layers_may_stand_anywhere(tmp_path: Path) -> None:
    path = edit(specforge(tmp_path / "d"), config={LAYERS: [2, 15, 27]})
    assert not list(layers.unread(looked(path)))
    both = {LAYERS: [1, 3, 4], "eagle_config": {LAYERS: [0, 2, 3]}}
    path = edit(path, config=both)
    assert not list(layers.unread(looked(path)))
    assert not list(layers.contradict(looked(path)))


def test_modelopt_is_read_one_layer_early_by_one_engine(tmp_path: Path) -> None:
    (said,) = layers.unread(looked(modelopt(tmp_path / "d"), target(tmp_path / "t")))
    judged = {name: Finding.of("n", said, [name]) for name in ("vllm", "sglang", "llama.cpp")}
    assert judged["vllm"] is not None
    assert judged["vllm"].severity is Severity.LOSS
    assert judged["sglang"] is None
    assert judged["llama.cpp"] is None


def test_speculators_states_layers_where_its_readers_look(tmp_path: Path) -> None:
    assert not list(layers.unread(looked(speculators(tmp_path / "d"))))


def test_two_lists_that_say_the_same_number_do_not_mean_the_same(tmp_path: Path) -> None:
    config = {LAYERS: [2, 4, 5], "eagle_config": {LAYERS: [2, 4, 5]}}
    (said,) = layers.contradict(looked(edit(specforge(tmp_path / "d"), config=config)))
    assert "these are the inputs [3, 5, 6]" in said.what


def test_odd_values_are_no_layers(tmp_path: Path) -> None:
    for odd in ("2,4,5", [1, "a"], {"a": 1}):
        subject = looked(edit(specforge(tmp_path / str(odd)[:3]), config={LAYERS: odd}))
        assert not list(layers.unread(subject))
        (said,) = layers.impossible(subject)
        assert said.what.startswith(f"{LAYERS} is ")
        assert said.what.endswith("not a list of layers")


def test_a_fusion_layer_of_no_width_is_left_to_others(tmp_path: Path) -> None:
    flat = edit(specforge(tmp_path / "d"), add={"fc.weight": np.ones(3, np.float32)})
    subject = looked(edit(flat, config={LAYERS: [2, 4, 5]}), target(tmp_path / "t"))
    assert not list(layers.impossible(subject))


def test_an_empty_list_states_nothing(tmp_path: Path) -> None:
    nested = {"use_aux_hidden_state": True, LAYERS: []}
    subject = looked(edit(specforge(tmp_path / "d"), config={"eagle_config": nested, LAYERS: []}))
    assert not list(layers.unread(subject))
    assert not list(layers.contradict(subject))
    (said,) = layers.impossible(subject)
    assert [one.reader for one in said.effects] == ["sglang"]
