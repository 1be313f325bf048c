from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import K as FEWER
from tests.clean_drafters import V as WHOLE
from tests.clean_drafters import sidecar, trimmed_lm
from tests.tiny import tiny_eagle3, tiny_target
from tests.tiny_gguf import H, V, tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.engines.serving.base import EngineError, serving_named
from vocabtrim.pipeline.benching.arms import find_pair, foreign_arms
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import Checkpoint

LLAMA, VLLM = serving_named("llama.cpp"), serving_named("vllm")


def files(directory: Path) -> tuple[str, str, str]:
    target = tiny_gguf_target(directory / "t.gguf")
    full = tiny_gguf(directory / "full.gguf")
    trimmed = tiny_gguf(directory / "trimmed.gguf", head="Q8_0", ids=range(0, 64, 2))
    return str(target), str(full), str(trimmed)


def test_files_are_known_by_their_headers(tmp_path: Path) -> None:
    target, full, trimmed = files(tmp_path)
    pair = find_pair(LLAMA, target, [full, trimmed])
    assert (pair.cost.V, pair.cost.drafter, pair.cost.K) == (V, None, None)
    assert [drafter.method for drafter in pair.drafters] == ["draft-eagle3"] * 2
    assert [drafter.cost.K for drafter in pair.drafters] == [V, 32]
    assert [drafter.cost.family for drafter in pair.drafters] == ["eagle3"] * 2
    rows = 32 * (H // 32 * 34)
    deltas = [drafter.cost.memory_delta_bytes for drafter in pair.drafters]
    assert deltas == [0, rows + 32 * 8]
    costs = [drafter.cost.drafter_cost for drafter in pair.drafters]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0].head_bytes == 3 * costs[1].head_bytes


def test_arms_are_the_target_twice_then_drafters_by_length(tmp_path: Path) -> None:
    target, full, trimmed = files(tmp_path)
    arms = find_pair(LLAMA, target, [full, trimmed]).arms([3, 1, 3])
    assert [(arm.cost.drafter, arm.gamma, arm.is_twin) for arm in arms] == [
        (None, 0, False),
        (None, 0, True),
        (full, 1, False),
        (trimmed, 1, False),
        (full, 3, False),
        (trimmed, 3, False),
    ]
    assert all(arm.is_ours for arm in arms)
    assert len(find_pair(LLAMA, target, []).arms([])) == 2


def test_a_whole_model_drafts_by_itself(tmp_path: Path) -> None:
    target = str(tiny_gguf_target(tmp_path / "t.gguf"))
    draft = str(tiny_gguf_target(tmp_path / "d.gguf", hidden=128, tied=False))
    (drafter,) = find_pair(LLAMA, target, [draft]).drafters
    assert (drafter.method, drafter.cost.family, drafter.cost.K) == (
        "draft-simple",
        "independent",
        V,
    )


def test_directories_are_known_by_their_tensors(tmp_path: Path) -> None:
    target = tiny_target(tmp_path / "t")
    full = tiny_eagle3(tmp_path / "d")
    V = Checkpoint.open(target).integer("vocab_size")
    ids = DraftVocab([1, 2, 5, 7], V)
    trim(full, ids, tmp_path / "trimmed", target=target)
    pair = find_pair(VLLM, str(target), [str(full), str(tmp_path / "trimmed")])
    assert [drafter.method for drafter in pair.drafters] == ["eagle3"] * 2
    assert [drafter.cost.K for drafter in pair.drafters] == [V, 4]
    assert pair.drafters[1].cost.memory_delta_bytes is not None
    assert pair.target == target


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    message = f"serves GGUF files, and {tmp_path} is a directory; make one with `vocabtrim export"
    with pytest.raises(EngineError, match=message):
        find_pair(LLAMA, str(tmp_path), [])
    with pytest.raises(EngineError, match=r"nothing.gguf is not there"):
        find_pair(LLAMA, str(tmp_path / "nothing.gguf"), [])
    (tmp_path / "x.gguf").write_text("no")
    with pytest.raises(CheckpointError, match="no GGUF file"):
        find_pair(LLAMA, str(tmp_path / "x.gguf"), [])


def test_a_family_that_the_engine_does_not_draft_with_is_said(tmp_path: Path) -> None:
    from vocabtrim.families.base import FAMILIES

    FAMILIES.load("eagle").tiny_checkpoint(tmp_path / "d", vocab_size=40, hidden=16, seed=1)
    target = tiny_target(tmp_path / "t")
    with pytest.raises((EngineError, CheckpointError)):
        find_pair(VLLM, str(target), [str(tmp_path / "d")])


def test_of_a_server_of_others_nothing_is_claimed() -> None:
    arms = foreign_arms("theirs")
    assert [(arm.is_twin, arm.is_ours, arm.gamma) for arm in arms] == [
        (False, False, 0),
        (True, False, 0),
    ]


def natively(directory: Path) -> tuple[str, str]:
    """A target with prediction layers, and what is served of it with fewer ids."""
    made = sidecar(directory / "sidecar")
    export(made, "vllm", directory / "out", target=str(directory / "host"))
    return str(directory / "host"), str(directory / "out")


def test_a_target_that_is_its_own_drafter_drafts_with_its_prediction_layers(tmp_path: Path) -> None:
    target, trimmed = natively(tmp_path)
    pair = find_pair(VLLM, target, [f"{tmp_path}/sidecar/../host", trimmed])
    assert [drafter.method for drafter in pair.drafters] == ["mtp"] * 2
    assert [drafter.cost.K for drafter in pair.drafters] == [WHOLE, FEWER]
    rows, maps = FEWER * 32 * 4, FEWER * 8 + WHOLE
    deltas = [drafter.cost.memory_delta_bytes for drafter in pair.drafters]
    assert deltas == [0, rows + maps]
    (alone,) = find_pair(VLLM, target, [target]).drafters
    assert alone.method == "mtp"


def test_of_several_families_the_one_of_all_drafters_is_meant(tmp_path: Path) -> None:
    target, trimmed = natively(tmp_path / "a")
    other = tiny_target(tmp_path / "t", vocab_size=WHOLE)
    for drafters, methods in (
        ([target, trimmed], ["mtp"] * 2),
        ([target], ["draft_model"]),
        ([target, str(other)], ["draft_model"] * 2),
    ):
        pair = find_pair(VLLM, str(other), drafters)
        assert [drafter.method for drafter in pair.drafters] == methods
    (named,) = find_pair(VLLM, str(other), [target], "mtp").drafters
    assert named.method == "mtp"
    (named,) = find_pair(VLLM, target, [target], "independent").drafters
    assert named.method == "draft_model"
    with pytest.raises(CheckpointError, match="no drafter of the family eagle3"):
        find_pair(VLLM, str(other), [target], "eagle3")


def test_drafters_of_different_families_are_not_compared(tmp_path: Path) -> None:
    target, trimmed = natively(tmp_path / "a")
    lm = str(trimmed_lm(tmp_path / "b" / "less"))
    said = rf"{lm} \(independent\), {trimmed} \(mtp\): measure them one by one"
    with pytest.raises(CheckpointError, match=said):
        find_pair(VLLM, target, [lm, trimmed])
    # nor does a target change what it is for the sake of a comparison
    with pytest.raises(CheckpointError, match=r"host \(mtp\), .*less \(independent\)"):
        find_pair(VLLM, target, [target, lm])
    file, full, _ = files(tmp_path)
    other = str(tiny_gguf_target(tmp_path / "d.gguf", hidden=128, tied=False))
    with pytest.raises(CheckpointError, match=r"d\.gguf \(independent\)"):
        find_pair(LLAMA, file, [full, other])
    assert find_pair(LLAMA, file, [full], "eagle3").drafters
    with pytest.raises(CheckpointError, match="no drafter of the family mtp"):
        find_pair(LLAMA, file, [full], "mtp")
