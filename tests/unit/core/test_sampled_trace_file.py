"""What a sampled trace is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sampled_traces import V, drawn, same
from vocabtrim.core.errors import ArtifactError
from vocabtrim.core.manifest import Manifest, write_artifact
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.sampled_trace_file import (
    read_any_trace,
    read_sampled_trace,
    write_sampled_trace,
)
from vocabtrim.core.trace_file import SAMPLED_KIND, read_trace


@pytest.mark.parametrize("own_depths", [True, False])
def test_what_is_written_is_read(tmp_path: Path, own_depths: bool) -> None:
    path, trace = tmp_path / "t", drawn(own_depths=own_depths)
    write_sampled_trace(path, trace, inputs={}, options={"gamma": 2}, facts={"drafter": "d"})
    for read in (read_sampled_trace, read_any_trace):
        found, manifest = read(path)
        assert isinstance(found, SampledTrace)
        assert same(found, trace)
        assert (manifest.options["gamma"], manifest.facts["drafter"]) == (2, "d")


def test_one_kind_is_not_read_as_the_other(tmp_path: Path) -> None:
    write_sampled_trace(tmp_path / "t", drawn(), inputs={}, options={}, facts={})
    with pytest.raises(ArtifactError, match="give a greedy trace"):
        read_trace(tmp_path / "t")


def test_damage_is_named(tmp_path: Path) -> None:
    def written(name: str, tokenizer: str | None, facts: dict[str, Any]) -> Path:
        tensors = {"order": np.arange(3)}
        write_artifact(
            tmp_path / name,
            tensors,
            Manifest(SAMPLED_KIND, V, tokenizer, {}, {}, facts),
            force=True,
        )
        return tmp_path / name

    with pytest.raises(ArtifactError, match="does not name its tokenizer"):
        read_sampled_trace(written("a", None, {}))
    with pytest.raises(ArtifactError, match="this trace is damaged"):
        read_sampled_trace(written("b", "t", {}))
    with pytest.raises(ArtifactError, match="this trace is damaged"):
        read_sampled_trace(written("c", "t", {"texts": [], "sizes": ["x"]}))
