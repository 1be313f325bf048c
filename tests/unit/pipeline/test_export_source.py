"""What an export is made from: ids by row, whatever their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import (
    IDS,
    K,
    V,
    gguf_drafter,
    gguf_target,
    modelopt,
    specforge,
    speculators,
    target,
    trimmed_eagle,
    whole,
)
from tests.tiny import numbers, raw_tensors
from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Container
from vocabtrim.families import mtp
from vocabtrim.pipeline.export_source import open_source


def test_ids_are_in_the_order_of_the_rows(tmp_path: Path) -> None:
    path = modelopt(tmp_path / "d")
    stored = numbers(raw_tensors(path)["d2t"]) + np.arange(K)
    source = open_source(path)
    assert source.order is not None
    assert source.order.tolist() == stored.tolist()
    assert source.vocab.ids.tolist() == IDS.tolist()
    assert source.layers == (2, 4, 5)


def test_an_unsorted_gguf_map_too(tmp_path: Path) -> None:
    shuffled = np.random.default_rng(0).permutation(IDS).tolist()
    source = open_source(gguf_drafter(tmp_path / "d", ids=shuffled))
    assert source.order is not None
    assert source.order.tolist() == shuffled
    assert source.layers == (2, 4, 5)
    assert source.containers == (Container.GGUF,)


def test_all_ids_have_no_order(tmp_path: Path) -> None:
    source = open_source(whole(tmp_path / "d"))
    assert source.order is None
    assert source.vocab.is_full
    assert source.vocab.vocab_size == V


def test_the_nearest_form_comes_first(tmp_path: Path) -> None:
    assert open_source(specforge(tmp_path / "a")).containers[0] is Container.FLAT
    assert open_source(speculators(tmp_path / "b")).containers[0] is Container.SPECULATORS
    assert open_source(trimmed_eagle(tmp_path / "c")).family == "eagle"


def test_what_had_made_it_is_kept(tmp_path: Path) -> None:
    assert open_source(specforge(tmp_path / "a")).before is None
    assert open_source(trimmed_eagle(tmp_path / "b")).before["kind"] == "trimmed drafter"


def test_models_that_draft_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="llama is no drafter"):
        open_source(gguf_target(tmp_path))
    assert open_source(target(tmp_path / "t")).family == "independent"


def test_of_several_families_one_is_meant(tmp_path: Path) -> None:
    mtp.PLUGIN.tiny_checkpoint(tmp_path / "d", vocab_size=V)
    with pytest.raises(CheckpointError, match="independent and mtp at once: say with --family"):
        open_source(tmp_path / "d")
    for name in ("independent", "mtp"):
        assert open_source(tmp_path / "d", name).family == name
    file = gguf_drafter(tmp_path / "g")
    assert open_source(file, "eagle3").family == "eagle3"
    with pytest.raises(CheckpointError, match="it is a drafter of eagle3, not of mtp"):
        open_source(file, "mtp")
