"""Configs: which layers are everybody's default, and what V is held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import LAYERS, V, modelopt, specforge, speculators, target
from tests.tiny import edit
from vocabtrim.pipeline.checks import configs
from vocabtrim.pipeline.checks.base import Finding, Severity
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path, verifier: Path | None = None) -> Subject:
    opened = None if verifier is None else Checkpoint.open(verifier)
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path), target=opened)


@pytest.mark.parametrize("depth", [4, 8, 16, 28, 30, 32, 61, 80])
def test_the_default_is_known_without_the_target(depth: int) -> None:
    default = [2, depth // 2, depth - 3]
    assert configs.is_default(default, None)
    assert not configs.is_default([1, *default[1:]], None)
    assert not configs.is_default([2, default[1] - 1, default[2]], None)


def test_the_target_says_which_default(tmp_path: Path) -> None:
    verifier = Checkpoint.open(target(tmp_path / "t"))
    assert configs.is_default([2, 4, 5], verifier)
    assert configs.is_default([2, 16, 29], None)
    assert not configs.is_default([2, 16, 29], verifier)


def test_default_layers_may_stand_anywhere(tmp_path: Path) -> None:
    path = edit(specforge(tmp_path / "d"), config={LAYERS: [2, 15, 27]})
    assert not list(configs.layers_unread(looked(path)))
    both = {LAYERS: [1, 3, 4], "eagle_config": {LAYERS: [0, 2, 3]}}
    path = edit(path, config=both)
    assert not list(configs.layers_unread(looked(path)))
    assert not list(configs.layers_contradict(looked(path)))


def test_modelopt_is_read_one_layer_early_by_one_engine(tmp_path: Path) -> None:
    (said,) = configs.layers_unread(looked(modelopt(tmp_path / "d"), target(tmp_path / "t")))
    judged = {name: Finding.of("n", said, [name]) for name in ("vllm", "sglang", "llama.cpp")}
    assert judged["vllm"] is not None
    assert judged["vllm"].severity is Severity.LOSS
    assert judged["sglang"] is None
    assert judged["llama.cpp"] is None


def test_speculators_states_layers_where_its_readers_look(tmp_path: Path) -> None:
    assert not list(configs.layers_unread(looked(speculators(tmp_path / "d"))))


def test_two_lists_that_say_the_same_number_do_not_mean_the_same(tmp_path: Path) -> None:
    config = {LAYERS: [2, 4, 5], "eagle_config": {LAYERS: [2, 4, 5]}}
    (said,) = configs.layers_contradict(looked(edit(specforge(tmp_path / "d"), config=config)))
    assert "these are the inputs [3, 5, 6]" in said.what


def test_padding_of_v_is_no_contradiction(tmp_path: Path) -> None:
    bare = edit(specforge(tmp_path / "d"), drop=["t2d"], config={"vocab_size": V + 64})
    subject = looked(bare, target(tmp_path / "t"))
    assert not list(configs.vocab_size(subject))
    assert len(list(configs.target_vocabulary(subject))) == 1


def test_k_in_place_of_v_shows_in_ids_beyond_it(tmp_path: Path) -> None:
    bare = edit(specforge(tmp_path / "d"), drop=["t2d"], config={"vocab_size": 64})
    (said,) = configs.vocab_size(looked(bare))
    assert said.what == "vocab_size is 64, which is its K, and there are 153 ids"


def test_odd_values_are_no_layers(tmp_path: Path) -> None:
    for odd in ("2,4,5", [], [1, "a"], {"a": 1}):
        subject = looked(edit(specforge(tmp_path / str(odd)[:3]), config={LAYERS: odd}))
        assert not list(configs.layers_unread(subject))
        assert not list(configs.layers_impossible(subject))
