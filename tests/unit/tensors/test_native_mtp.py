"""Prediction layers are told from the layers of the target itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from vocabtrim.tensors.native_mtp import native_mtp
from vocabtrim.tensors.tensor_info import TensorInfo

TRUNK = ["model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"]


def tensors(names: Iterable[str]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(name, "BF16", (2, 2), Path("f"), 0, 8) for name in names}


def test_the_layout_of_qwen3_next() -> None:
    own = ["mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.norm.weight"]
    found = native_mtp(tensors([*TRUNK, *own]), 48)
    assert found is not None
    assert (found.layout, found.depths, found.copies) == ("qwen3-next", 1, ())
    assert [info.name for info in found.tensors] == own


def test_a_packed_fusion_is_one_too() -> None:
    found = native_mtp(tensors(["mtp.fc.weight_packed", "mtp.fc.weight_scale"]), 48)
    assert found is not None
    assert len(found.tensors) == 2


@pytest.mark.parametrize("prefix", ["model.", "language_model.model.", "model.language_model."])
def test_the_layout_of_deepseek_v3(prefix: str) -> None:
    layer = f"{prefix}layers.61."
    own = [f"{layer}{name}.weight" for name in ("eh_proj", "enorm", "hnorm", "shared_head.norm")]
    copies = [f"{layer}{name}.weight" for name in ("embed_tokens", "shared_head.head")]
    found = native_mtp(tensors([*TRUNK, *own, *copies]), 61)
    assert found is not None
    assert (found.layout, found.depths) == ("deepseek-v3", 1)
    assert [info.name for info in found.tensors] == own
    assert [info.name for info in found.copies] == copies


def test_layers_that_follow_one_another() -> None:
    names = [f"model.layers.{i}.{n}.weight" for i in (61, 62) for n in ("eh_proj", "enorm")]
    found = native_mtp(tensors(names), 61)
    assert found is not None
    assert (found.depths, len(found.tensors)) == (2, 4)


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (TRUNK, 48),
        ([*TRUNK, "model.layers.61.eh_proj.weight"], 62),
        ([*TRUNK, "model.layers.61.eh_proj.weight"], None),
        ([*TRUNK, "model.layers.61.mlp.up_proj.weight"], 61),
        ([*TRUNK, "mtp.norm.weight"], 48),
    ],
)
def test_what_is_none(names: list[str], layers: int | None) -> None:
    assert native_mtp(tensors(names), layers) is None
