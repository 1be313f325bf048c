from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.traces import TOKENIZER, World
from vocabtrim.core.errors import ArtifactError, OutputExists
from vocabtrim.core.manifest import Manifest, read_artifact, write_artifact
from vocabtrim.core.trace_file import KIND, read_trace, write_trace


@pytest.mark.parametrize("own_depths", [True, False])
def test_what_is_written_is_read(tmp_path: Path, own_depths: bool) -> None:
    trace = World(4, own_depths=own_depths, texts=6).trace(2, resolved=True)
    assert trace.above
    path = tmp_path / "trace.safetensors"
    write_trace(path, trace, inputs={"p": "sha256:1"}, options={"gamma": 4}, facts={"target": "t"})
    found, manifest = read_trace(path)
    assert manifest.facts["target"] == "t"
    assert (found.vocab_size, found.tokenizer) == (trace.vocab_size, TOKENIZER)
    assert (found.own_depths, found.max_gamma) == (own_depths, trace.max_gamma)
    for name in ("candidates", "scores", "target_rank", "target_score"):
        assert np.array_equal(getattr(found, name), getattr(trace, name))
        assert getattr(found, name).dtype == getattr(trace, name).dtype
    assert found.above.keys() == trace.above.keys()
    for place, ids in trace.above.items():
        assert np.array_equal(found.above[place], ids)
    for one, other in zip(found.texts, trace.texts, strict=True):
        assert (one.name, one.domain, one.budget) == (other.name, other.domain, other.budget)
        assert np.array_equal(one.prompt_ids, other.prompt_ids)
        assert np.array_equal(one.tokens, other.tokens)
    with pytest.raises(OutputExists):
        write_trace(path, trace, inputs={}, options={}, facts={})


def test_a_trace_of_texts_without_a_second_token(tmp_path: Path) -> None:
    trace = World(4, texts=0).trace()
    write_trace(tmp_path / "t", trace, inputs={}, options={}, facts={})
    assert read_trace(tmp_path / "t")[0].texts == ()


def test_a_reduced_head_is_remembered(tmp_path: Path) -> None:
    ids = np.array([0, 3, 9])
    write_trace(
        tmp_path / "t", replace(World(4).trace(), head_ids=ids), inputs={}, options={}, facts={}
    )
    found = read_trace(tmp_path / "t")[0].head_ids
    assert found is not None
    assert found.tolist() == ids.tolist()


def test_damage_is_said(tmp_path: Path) -> None:
    trace = World(4, texts=3).trace()
    path = tmp_path / "trace.safetensors"
    write_trace(path, trace, inputs={}, options={}, facts={})
    tensors, manifest = read_artifact(path, KIND)
    for name in ("lengths", "candidates"):
        fewer = {**tensors, name: tensors[name][1:]}
        write_artifact(path, fewer, manifest, force=True)
        with pytest.raises(ArtifactError, match="this trace is damaged"):
            read_trace(path)
    write_artifact(path, tensors, Manifest(KIND, 13, None), force=True)
    with pytest.raises(ArtifactError, match="does not name its tokenizer"):
        read_trace(path)
