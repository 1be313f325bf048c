"""A drafter as it is stored: contradictions kept, the surest source first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import (
    IDS,
    K,
    V,
    gguf_drafter,
    modelopt_map,
    sidecar,
    specforge,
    speculators,
    target,
    token_map,
    trimmed_eagle,
    trimmed_lm,
)
from tests.tiny import edit
from vocabtrim.pipeline.checks.listed import read_listed
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import open_gguf


def drafter(path: Path, verifier: Path | None = None) -> Subject:
    opened = None if verifier is None else Verifier(Checkpoint.open(verifier))
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path), target=opened)


def listing(path: Path) -> Subject:
    return Subject(path, Form.LIST, listed=read_listed(path))


def test_a_reduced_drafter(tmp_path: Path) -> None:
    subject = drafter(specforge(tmp_path / "d"))
    assert subject.families == ("eagle3",)
    assert (subject.vocab_size, subject.draft_size, subject.rows) == (V, K, K)
    assert subject.reduced
    assert subject.fused
    assert subject.map is not None
    assert not subject.map.absolute
    assert subject.ids is not None
    assert subject.mask is not None
    assert subject.ids.tolist() == np.flatnonzero(subject.mask).tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ("build", "family", "speculating"),
    [
        (speculators, "eagle3", True),
        (trimmed_lm, "independent", False),
        (trimmed_eagle, "eagle", False),
        (sidecar, "mtp", False),
    ],
)
def test_families_and_layouts(
    tmp_path: Path, build: Callable[[Path], Path], family: str, *, speculating: bool
) -> None:
    subject = drafter(build(tmp_path / "d"))
    assert family in subject.families
    assert subject.speculators is speculating
    assert (subject.vocab_size, subject.draft_size) == (V, K)


def test_v_comes_from_the_surest_source(tmp_path: Path) -> None:
    path = edit(specforge(tmp_path / "d"), config={"vocab_size": 99})
    assert drafter(path).stated_vocab_size == 99
    assert drafter(path).vocab_size == V
    assert drafter(edit(path, drop=["t2d"])).vocab_size == 99
    assert drafter(path, target(tmp_path / "t")).vocab_size == V
    odd = edit(path, config={"vocab_size": "many"})
    assert drafter(odd).vocab_size is None
    assert drafter(odd).reduced


def test_a_gguf_map_holds_ids(tmp_path: Path) -> None:
    path = gguf_drafter(tmp_path / "d")
    subject = Subject(path, Form.GGUF, gguf=open_gguf(path))
    assert subject.families == ("eagle3",)
    assert subject.map is not None
    assert subject.map.absolute
    assert subject.ids is not None
    assert subject.ids.tolist() == IDS.tolist()
    assert subject.rows == K


def test_lists_hold_ids_unless_they_cannot(tmp_path: Path) -> None:
    ids, offsets = listing(token_map(tmp_path / "a")), listing(modelopt_map(tmp_path / "b"))
    assert ids.ids is not None
    assert offsets.ids is not None
    assert ids.ids.tolist() == sorted(offsets.ids.tolist()) == IDS.tolist()


def test_maps_that_are_none(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    subject = drafter(edit(path, add={"d2t": np.zeros((2, 2), np.int64)}))
    assert subject.map is not None
    assert subject.map.numbers is None
    assert subject.ids is None
    assert drafter(edit(path, add={"t2d": np.zeros(V, np.float32)})).mask is None


def test_parts_of_a_packed_head(tmp_path: Path) -> None:
    packed = {
        "lm_head.weight_packed": np.ones((K, 4), np.int32),
        "lm_head.weight_scale": np.ones((V, 1), np.float32),
    }
    path = edit(specforge(tmp_path / "d"), drop=["lm_head.weight"], add=packed)
    subject = drafter(path)
    assert subject.head is None
    assert set(subject.head_parts) == {"weight_packed", "weight_scale"}
    assert subject.rows == K
    gptq = {
        "lm_head.qweight": np.ones((8, 72), np.int32),
        "lm_head.scales": np.ones((2, 72), np.float32),
    }
    path = edit(path, drop=packed, add=gptq)
    assert drafter(path).rows == 72


def test_ends_come_from_configs_where_there_is_no_tokenizer(tmp_path: Path) -> None:
    path = edit(specforge(tmp_path / "d"), config={"eos_token_id": 7})
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [8, 9]}))
    assert drafter(path).ends == {7, 8, 9}
    verifier = edit(target(tmp_path / "t"), config={"eos_token_id": [11]})
    # a drafter's config often repeats the ends of the model that its own was copied from
    assert drafter(path, verifier).ends == {11}
    assert drafter(edit(path, config={"eos_token_id": "end"})).ends == {8, 9}
