"""A drafter converted is the same drafter, and converted back nothing has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import reference_forward
from tests.tiny import (
    H,
    V,
    as_bin,
    edit,
    numbers,
    raw_tensors,
    tiny_eagle3,
    tiny_lm,
    tiny_speculators,
    tiny_target,
    write_raw,
)
from vocabtrim.core.errors import CheckpointError, OutputExists, VocabtrimError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import family_of
from vocabtrim.pipeline.convert import NO_LAYERS, NO_VERIFIER, REORDERED, ConvertResult, convert
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import FEATURE_KEY, Counting, Layout, stated_layers

IDS = list(range(1, V, 3))
Build = Callable[[Path], Path]


def _modelopt(path: Path) -> Path:
    """A drafter as ModelOpt exports it: no mask, layers counted by their outputs."""
    directory = tiny_eagle3(path, ids=IDS, own_embedding=True)
    tensors = {k.replace("midlayer.", "layers.0."): r for k, r in raw_tensors(directory).items()}
    del tensors["t2d"]
    write_raw(directory, tensors)
    nested = {"use_aux_hidden_state": True, FEATURE_KEY: [0, 1, 3], "use_last_layernorm": True}
    return edit(directory, config={"eagle_config": nested}, forget=[FEATURE_KEY])


def _specforge(path: Path) -> Path:
    """A drafter as SpecForge exports it at full vocabulary: a map of zeros, no embedding."""
    maps = {"d2t": np.zeros(V, np.int64), "t2d": np.ones(V, np.bool_)}
    return edit(tiny_eagle3(path, own_head=True), add=maps)


FLAT: dict[str, Build] = {
    "SafeAILab, reduced": lambda path: tiny_eagle3(path, ids=IDS, own_embedding=True),
    "SafeAILab, without head and embedding": tiny_eagle3,
    "SafeAILab, as .bin": lambda path: as_bin(tiny_eagle3(path, ids=IDS)),
    "SpecForge, full vocabulary": _specforge,
    "ModelOpt": _modelopt,
    "in shards": lambda path: edit(tiny_eagle3(path, ids=IDS), shards=3),
}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tiny_target(tmp_path / "target")


def config_of(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config


@pytest.mark.parametrize("case", FLAT)
def test_flat_to_speculators_to_flat_is_the_identity(
    tmp_path: Path, target: Path, case: str
) -> None:
    flat = FLAT[case](tmp_path / "flat")
    text = '{"of": "its\\u00a0own",' + (flat / "config.json").read_text().lstrip("{ \n")
    (flat / "config.json").write_text(text)
    tensors = {
        name: (info.dtype, info.shape, b"".join(Checkpoint.open(flat).chunks(name)))
        for name, info in Checkpoint.open(flat).tensors.items()
    }
    there = convert(flat, Layout.SPECULATORS, tmp_path / "nested", target=target)
    back = convert(tmp_path / "nested", Layout.FLAT, tmp_path / "back")
    assert (there.restored, back.restored) == (False, True)
    assert there.head_added is ("lm_head.weight" not in tensors)
    assert raw_tensors(tmp_path / "back") == tensors
    assert (tmp_path / "back/config.json").read_text() == text
    left = {file.name for file in (tmp_path / "back").iterdir()}
    assert left == {"config.json", "model.safetensors", "vocabtrim.json"}


@pytest.mark.parametrize("case", FLAT)
def test_every_layout_is_the_same_drafter(tmp_path: Path, target: Path, case: str) -> None:
    flat = FLAT[case](tmp_path / "flat")
    convert(flat, Layout.SPECULATORS, tmp_path / "nested", target=target)
    convert(tmp_path / "nested", Layout.FLAT, tmp_path / "back")
    if case.endswith(".bin"):
        flat = tmp_path / "back"
    expected_ids, expected = reference_forward.logits("eagle3", flat, target)
    for name in ("nested", "back"):
        ids, logits = reference_forward.logits("eagle3", tmp_path / name, target)
        assert np.array_equal(ids, expected_ids)
        assert np.array_equal(logits, expected)
        opened = Checkpoint.open(tmp_path / name)
        assert family_of(opened).head(opened, Checkpoint.open(target)).held.ids.tolist() == list(
            ids
        )
        assert stated_layers(opened.config) == stated_layers(config_of(flat))


def test_what_speculators_reads_is_there(tmp_path: Path, target: Path) -> None:
    convert(_modelopt(tmp_path / "m"), Layout.SPECULATORS, tmp_path / "out", verifier="org/x")
    tensors, config = raw_tensors(tmp_path / "out"), config_of(tmp_path / "out")
    assert np.flatnonzero(numbers(tensors["t2d"])).tolist() == IDS
    assert config[FEATURE_KEY] == [1, 2, 4]
    assert config["speculators_config"]["verifier"]["name_or_path"] == "org/x"
    full = convert(tiny_eagle3(tmp_path / "f"), Layout.SPECULATORS, tmp_path / "b", target=target)
    tensors = raw_tensors(tmp_path / "b")
    assert (full.K, full.head_added) == (V, True)
    assert tensors["lm_head.weight"] == raw_tensors(target)["model.embed_tokens.weight"]
    assert not {"d2t", "t2d"} & tensors.keys()
    assert config_of(tmp_path / "b")["speculators_config"]["verifier"]["architectures"] == [
        "LlamaForCausalLM"
    ]


def test_a_trim_in_between_survives_the_way_back(tmp_path: Path, target: Path) -> None:
    flat = _modelopt(tmp_path / "flat")
    convert(flat, Layout.SPECULATORS, tmp_path / "nested", target=target)
    kept = DraftVocab(np.array(IDS[::2]), V)
    trim(tmp_path / "nested", kept, tmp_path / "less")
    back = convert(tmp_path / "less", Layout.FLAT, tmp_path / "back")
    trim(flat, kept, tmp_path / "direct")
    assert not back.restored
    assert raw_tensors(tmp_path / "back") == raw_tensors(tmp_path / "direct")
    expected = config_of(tmp_path / "direct")
    found = config_of(tmp_path / "back")
    assert stated_layers(found) == stated_layers(expected)
    assert {k: v for k, v in found.items() if k in expected} == expected


@pytest.mark.parametrize("counting", list(Counting))
def test_layers_that_are_nobodys_default_arrive_as_each_reader_counts(
    tmp_path: Path, counting: Counting
) -> None:
    drafter = tiny_speculators(tmp_path / "s", ids=IDS)
    result = convert(drafter, Layout.FLAT, tmp_path / "out", counting=counting)
    config = config_of(tmp_path / "out")
    assert result.feature_layers == stated_layers(config) == (1, 2, 4)
    found = config.get(FEATURE_KEY), config.get("eagle_config", {}).get(FEATURE_KEY)
    assert (
        found
        == {
            Counting.INPUTS: ([1, 2, 4], None),
            Counting.OUTPUTS: (None, [0, 1, 3]),
            Counting.BOTH: ([1, 2, 4], [0, 1, 3]),
        }[counting]
    )
    again = convert(tmp_path / "out", Layout.SPECULATORS, tmp_path / "back")
    assert again.restored
    assert raw_tensors(tmp_path / "back") == raw_tensors(drafter)
    assert (tmp_path / "back/config.json").read_text() == (drafter / "config.json").read_text()


def test_only_the_count_changes_where_the_layout_stays(tmp_path: Path) -> None:
    drafter = _modelopt(tmp_path / "m")
    convert(drafter, Layout.FLAT, tmp_path / "out", counting=Counting.INPUTS)
    assert raw_tensors(tmp_path / "out") == raw_tensors(drafter)
    config = config_of(tmp_path / "out")
    assert config[FEATURE_KEY] == [1, 2, 4]
    assert FEATURE_KEY not in config["eagle_config"]
    assert config["eagle_config"]["use_last_layernorm"] is True


def test_layers_that_nobody_states_come_from_the_target_or_are_left_open(
    tmp_path: Path, target: Path
) -> None:
    drafter = edit(tiny_eagle3(tmp_path / "d", ids=IDS), forget=[FEATURE_KEY])
    named = {"verifier": "org/x"}
    told = convert(drafter, Layout.SPECULATORS, tmp_path / "told", target=target, **named)
    left = convert(drafter, Layout.SPECULATORS, tmp_path / "left", **named)
    assert told.feature_layers == (2, 2, 1)
    assert (left.feature_layers, left.warnings) == (None, (NO_LAYERS,))
    assert config_of(tmp_path / "left")[FEATURE_KEY] is None


def test_ids_in_order_of_frequency_are_put_in_order_with_their_rows(tmp_path: Path) -> None:
    ids = np.array([70, 5, 7, 1])
    drafter = edit(
        tiny_eagle3(tmp_path / "d", ids=[1, 5, 7, 70]),
        add={"d2t": ids - np.arange(4)},
        drop=["t2d"],
    )
    result = convert(drafter, Layout.SPECULATORS, tmp_path / "out", verifier="org/x")
    rows = numbers(raw_tensors(drafter)["lm_head.weight"])
    written = raw_tensors(tmp_path / "out")
    assert result.warnings == (REORDERED,)
    assert np.array_equal(numbers(written["lm_head.weight"]), rows[[3, 1, 2, 0]])
    assert (numbers(written["d2t"]) + np.arange(4)).tolist() == [1, 5, 7, 70]
    assert not list((tmp_path / "out").glob("vocabtrim-original.json"))


def test_the_result_and_the_manifest_say_what_was_done(tmp_path: Path, target: Path) -> None:
    drafter = tiny_eagle3(tmp_path / "d", ids=IDS)
    trim(drafter, DraftVocab(np.array(IDS[:8]), V), tmp_path / "t")
    result = convert(tmp_path / "t", Layout.SPECULATORS, tmp_path / "out", tokens=4)
    assert result == ConvertResult(
        output=str(tmp_path / "out"),
        layout_before="flat",
        layout="speculators",
        K=8,
        feature_layers=(1, 2, 3),
        head_added=False,
        restored=False,
        warnings=(NO_VERIFIER,),
    )
    assert json.loads(json.dumps(result.to_json()))["convert"]["feature_layers"] == [1, 2, 3]
    manifest = json.loads((tmp_path / "out/vocabtrim.json").read_text())
    assert manifest["kind"] == "converted drafter"
    assert manifest["facts"]["before"]["kind"] == "trimmed drafter"
    assert manifest["options"] == {"layout": "speculators", "counting": "both"}
    assert str(tmp_path) not in json.dumps(manifest)
    methods = config_of(tmp_path / "out")["speculators_config"]["proposal_methods"]
    assert methods[0]["speculative_tokens"] == 4


REFUSED: dict[str, tuple[Build, Layout, type[VocabtrimError], str]] = {
    "an ordinary LM": (tiny_lm, Layout.SPECULATORS, CheckpointError, "no EAGLE-3 drafter"),
    "no head and no target": (
        tiny_eagle3,
        Layout.SPECULATORS,
        CheckpointError,
        "needs one: give --target to copy the target's",
    ),
    "the layout that it has": (
        tiny_speculators,
        Layout.SPECULATORS,
        CheckpointError,
        "in the layout of speculators already",
    ),
    "a memory that is damaged": (
        lambda path: _with(tiny_speculators(path), "vocabtrim-original.json", "{}"),
        Layout.FLAT,
        CheckpointError,
        "damaged",
    ),
    "arithmetic without a word": (
        lambda path: edit(
            tiny_eagle3(path, ids=IDS), config={"eagle_config": {"use_last_layernorm": False}}
        ),
        Layout.SPECULATORS,
        CheckpointError,
        "has no word for that",
    ),
}


def _with(directory: Path, name: str, text: str) -> Path:
    (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    build, layout, error, message = REFUSED[case]
    drafter = build(tmp_path / "d")
    with pytest.raises(error, match=message) as caught:
        convert(drafter, layout, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {file.name for file in tmp_path.iterdir()} == {"d"}


def test_an_output_is_never_the_drafter_nor_replaced_unasked(tmp_path: Path) -> None:
    drafter = tiny_speculators(tmp_path / "d", ids=IDS)
    convert(drafter, Layout.FLAT, tmp_path / "out")
    with pytest.raises(OutputExists):
        convert(drafter, Layout.FLAT, tmp_path / "out")
    convert(drafter, Layout.FLAT, tmp_path / "out", force=True)
    for place in (tmp_path / "out", tmp_path / "out" / "inside"):
        with pytest.raises(OutputExists, match="neither in the drafter"):
            convert(tmp_path / "out", Layout.SPECULATORS, place, force=True)


def test_the_width_of_a_borrowed_head_is_looked_at(tmp_path: Path) -> None:
    wide = tiny_target(tmp_path / "t", hidden=2 * H)
    with pytest.raises(CheckpointError, match="trained for another target"):
        convert(tiny_eagle3(tmp_path / "d"), Layout.SPECULATORS, tmp_path / "out", target=wide)
