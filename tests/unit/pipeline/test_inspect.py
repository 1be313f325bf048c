"""Inspect tells the truth about drafters, targets and files of ours, and guesses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import (
    H,
    V,
    edit,
    in_bfloat16,
    numbers,
    raw_tensors,
    tiny_eagle3,
    tiny_lm,
    tiny_speculators,
    tiny_target,
)
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import ArtifactError, CheckpointError
from vocabtrim.core.manifest import Manifest, write_artifact
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.families.base import FAMILIES
from vocabtrim.families.eagle3 import PLUGIN as EAGLE3
from vocabtrim.pipeline.inspect import InspectResult, inspect
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import Checkpoint

PART = DraftVocab(np.array([1, 2, 40]), V)


def _facts(result: InspectResult) -> dict:
    return json.loads(json.dumps(result.to_json()))["inspect"]


def _text(result: InspectResult) -> dict[str, str]:
    parts = (line.partition(":") for line in result.lines())
    return {label: value.strip() for label, _, value in parts}


def test_a_drafter_with_a_borrowed_head(tmp_path: Path) -> None:
    target, drafter = tiny_target(tmp_path / "t"), tiny_eagle3(tmp_path / "d")
    result = inspect(str(drafter), target=str(target))
    cost = EAGLE3.cost(Checkpoint.open(drafter), Checkpoint.open(target))
    facts = _facts(result)
    expected = {
        "kind": "drafter",
        "family": "eagle3",
        "V": V,
        "K": V,
        "hidden": H,
        "dtype": "F32",
        "head_source": "the target's tied embedding",
        "tied": False,
        "gamma": 4,
        "head_bytes": 4 * V * H,
        "params": cost.params,
        "head_params": V * H,
        "tokenizer": None,
        "trimmed": {},
    }
    assert {key: facts[key] for key in expected} == expected
    assert facts["step_bytes"] == cost.step_bytes + cost.cycle_bytes / 4
    assert facts["head_share"] == pytest.approx(4 * V * H / facts["step_bytes"])
    text = _text(result)
    assert text["drafter"] == str(drafter)
    assert text["LM head"] == f"{V} × {H} F32, 0.0 MB"
    assert text["head from"] == "the target's tied embedding"
    assert text["mapping"] == "none, every id can be drafted"
    assert text["against target"].startswith("c 0.")
    assert 10 <= len(result.lines()) <= 14


def test_without_the_target_its_precision_is_marked_as_assumed(tmp_path: Path) -> None:
    result = inspect(str(in_bfloat16(tiny_eagle3(tmp_path / "d"))))
    facts, text = _facts(result), _text(result)
    assert facts["dtype"] is None
    assert facts["head_bytes"] == 2 * V * H
    assert facts["c"] is None
    assert text["head from"] == "the target (give --target to see its head)"
    for label in ("LM head", "draft step"):
        assert text[label].endswith("(if the target's precision is the drafter's)")
    assert "against target" not in text


def test_a_trimmed_drafter_says_by_what_and_from_how_many_rows(tmp_path: Path) -> None:
    drafter = tiny_lm(tmp_path / "d")
    trim(drafter, PART, tmp_path / "out")
    result = inspect(str(tmp_path / "out"))
    facts, text = _facts(result), _text(result)
    assert (facts["kind"], facts["K"], facts["V"]) == ("drafter", 3, V)
    assert facts["trimmed"]["facts"]["K_before"] == V
    assert text["K"] == "3 ids (3.1% of V)"
    assert text["mapping"] == "d2t and t2d agree: ids 1 to 40"
    assert text["trimmed by"].startswith("vocabtrim ")
    assert f"from {V} rows, draft step 0.1 MB → " in text["trimmed by"]
    assert text["trimmed by"].endswith(" added")
    edit(tmp_path / "out", drop=["t2d"])
    assert _text(inspect(str(tmp_path / "out")))["mapping"] == "d2t alone: ids 1 to 40"


@pytest.mark.parametrize(("tied", "said"), [(True, "yes, head and input"), (False, "no")])
def test_a_whole_causal_lm_is_called_so(tmp_path: Path, tied: bool, said: str) -> None:
    result = inspect(str(tiny_lm(tmp_path / "d", tied=tied)))
    assert result.kind == "causal LM"
    assert _text(result)["tied"].startswith(said)
    assert _facts(result)["tied"] is tied


def test_a_target_that_no_family_knows(tmp_path: Path) -> None:
    directory = edit(
        tiny_target(tmp_path / "t"), config={"architectures": ["XForTokenClassification"]}
    )
    result = inspect(str(directory))
    facts, text = _facts(result), _text(result)
    parameters = sum(numbers(raw).size for raw in raw_tensors(directory).values())
    assert (facts["kind"], facts["params"], facts["V"]) == ("target", parameters, V)
    assert facts["step_bytes"] == 4 * (parameters + H)
    assert text["decoding step"].endswith(f"head {facts['head_bytes'] / facts['step_bytes']:.0%}")


def test_a_target_that_brings_its_own_drafter_is_told_as_both(tmp_path: Path) -> None:
    FAMILIES.load("mtp").tiny_checkpoint(tmp_path / "t", vocab_size=V, hidden=H, seed=1)
    both = inspect(str(tmp_path / "t"))
    assert (both.kind, both.facts["family"]) == ("causal LM", "independent")
    assert both.text["also a drafter"] == "mtp (--family mtp)"
    alone = inspect(str(tmp_path / "t"), family="mtp")
    assert (alone.kind, alone.facts["family"]) == ("drafter", "mtp")
    assert alone.facts["head_source"] == "the lm_head of the target it is part of"
    assert "also a drafter" not in alone.text


def test_a_sidecar_describes_itself_without_its_target(tmp_path: Path) -> None:
    FAMILIES.load("mtp").tiny_checkpoint(tmp_path / "t", vocab_size=V, hidden=H, seed=1)
    trim(tmp_path / "t", DraftVocab(np.arange(8), V), tmp_path / "s", family="mtp")
    before, after = (inspect(str(tmp_path / name), family="mtp").facts for name in ("t", "s"))
    assert (after["V"], after["K"], after["hidden"]) == (V, 8, H)
    assert before["step_bytes"] - after["step_bytes"] == 4 * (V - 8) * H
    assert after["trimmed"]["facts"]["K_before"] == V


def test_a_drafter_of_speculators(tmp_path: Path) -> None:
    result = inspect(str(tiny_speculators(tmp_path / "s", ids=range(0, V, 2))))
    facts = result.facts
    assert (facts["family"], facts["V"], facts["K"], facts["hidden"]) == ("eagle3", V, V // 2, H)


@pytest.mark.parametrize("target", [None, "t"])
def test_a_contradiction_is_told_and_not_described(tmp_path: Path, target: str | None) -> None:
    drafter = edit(tiny_eagle3(tmp_path / "d"), config={"draft_vocab_size": 5})
    tiny_target(tmp_path / "t")
    with pytest.raises(CheckpointError, match="drafts over 5 of 96 ids but has no"):
        inspect(str(drafter), target=None if target is None else str(tmp_path / target))


def test_what_is_nothing_we_know(tmp_path: Path) -> None:
    directory = edit(tiny_eagle3(tmp_path / "d"), drop=["fc.weight"])
    with pytest.raises(CheckpointError, match="no drafter of a known family"):
        inspect(str(directory))
    with pytest.raises(CheckpointError, match="neither a directory"):
        inspect(str(tmp_path / "absent"))
    with pytest.raises(ArtifactError, match="was not written by vocabtrim"):
        inspect(str(directory / "model.safetensors"))


def _counts() -> TokenCounts:
    vector = np.zeros(50, np.int64)
    vector[[7, 9, 3]] = [5, 5, 1]
    part = TokenCounts(vector, np.minimum(vector, 1), 2, "sha256:t")
    return TokenCounts(vector * 2, np.minimum(vector, 1) * 2, 4, "sha256:t", domains={"code": part})


def test_counts(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_counts(path, _counts(), inputs={"a.txt": "sha256:1"}, options={}, facts={})
    result = inspect(str(path))
    facts, text = _facts(result), _text(result)
    assert facts["kind"] == "counts"
    assert (facts["documents"], facts["tokens"], facts["distinct_ids"]) == (4, 22, 3)
    assert facts["domains"] == {"code": 11}
    assert facts["top_ids"] == [
        {"id": 7, "count": 10},
        {"id": 9, "count": 10},
        {"id": 3, "count": 2},
    ]
    assert text["distinct ids"] == "3 (6.0% of V)"
    assert text["top ids"] == "7 (10), 9 (10), 3 (2)"
    assert text["domains"] == "code (11 tokens)"
    assert text["tokenizer"] == "sha256:t"
    assert text["inputs"] == "a.txt"


def test_counts_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_counts(path, TokenCounts.empty(50, "sha256:t"), inputs={}, options={}, facts={})
    text = _text(inspect(str(path)))
    assert (text["top ids"], text["domains"], text["inputs"]) == (
        "none",
        "none named",
        "none named",
    )


def test_a_draft_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    vocab = DraftVocab(np.array([2, 5, 1200]), 2000, "sha256:t")
    facts = {"filled_share": 0.25, "seen": 2, "coverage_by_domain": {"code": 1.0}}
    write_vocab(path, vocab, inputs={}, options={"rule": "top_k:k=3", "base": None}, facts=facts)
    result = inspect(str(path))
    assert _facts(result)["kind"] == "draft vocabulary"
    assert _facts(result)["K"] == 3
    assert _facts(result)["facts"] == facts
    text = _text(result)
    assert text["draft vocabulary"] == str(path)
    assert text["K"] == "3 ids (0.1% of V)"
    assert text["ids"] == "2 to 1,200"
    assert (text["rule"], text["filled share"], text["seen"]) == ("top_k:k=3", "0.2500", "2")


def test_a_file_of_ours_of_a_later_kind(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    manifest = Manifest("trace", 50, None, {}, {"gamma": 4}, {"prompts": 3})
    write_artifact(path, {"x": np.zeros(1)}, manifest)
    result = inspect(str(path))
    text = _text(result)
    assert result.kind == "trace"
    assert (text["gamma"], text["prompts"], text["tokenizer"]) == ("4", "3", "not known")


def test_the_demo_pair(demo_cache: Path) -> None:
    facts = _facts(inspect("demo-eagle3", target="demo"))
    assert facts["params"] == 61_712_640
    assert facts["head_source"] == "the target's tied embedding"
    assert facts["c"] == pytest.approx(0.4588, abs=1e-4)
    assert facts["tokenizer"] == _facts(inspect("demo"))["tokenizer"] is not None
