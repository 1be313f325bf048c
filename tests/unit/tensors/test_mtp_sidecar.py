"""What a sidecar remembers of its target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.mtp_sidecar import is_sidecar, remember_target, target_config


def test_a_text_model_is_remembered_as_it_is(tmp_path: Path) -> None:
    target = Checkpoint.open(tiny_lm(tmp_path / "t"))
    config = {"vocabtrim": {"mtp_sidecar": {}, **remember_target(target)}}
    assert is_sidecar(config)
    assert target_config(config) == dict(target.config)


def test_of_a_model_that_also_sees_the_text_part_is(tmp_path: Path) -> None:
    path = tiny_lm(tmp_path / "t")
    text = json.loads((path / "config.json").read_text())
    quantised = {"quant_method": "fp8"}
    whole = {"text_config": text, "vision_config": {"depth": 3}, "quantization_config": quantised}
    (path / "config.json").write_text(json.dumps(whole))
    config = {"vocabtrim": {"mtp_sidecar": {}, **remember_target(Checkpoint.open(path))}}
    assert target_config(config) == {**text, "quantization_config": quantised}


@pytest.mark.parametrize(
    "config",
    [{}, {"vocabtrim": 3}, {"vocabtrim": {}}, {"vocabtrim": {"mtp_sidecar": {}}}],
)
def test_what_remembers_no_target(config: dict[str, object]) -> None:
    assert is_sidecar(config) == ("mtp_sidecar" in str(config))
    with pytest.raises(CheckpointError, match="trim the target again"):
        target_config(config)
