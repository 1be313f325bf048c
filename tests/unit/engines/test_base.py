"""What is asked of an engine's facts, and the two rules that several share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.errors import CheckpointError, PluginError
from vocabtrim.engines.base import (
    ENGINES,
    Container,
    Level,
    cell_of,
    engine_named,
    head_rows,
    offset_ids,
)


def test_engines_answer_to_name_and_key() -> None:
    assert engine_named("llama.cpp") is engine_named("llama_cpp")
    assert engine_named("vllm").name == "vllm"
    with pytest.raises(PluginError, match=r"no engine is called 'tgi'; there are llama\.cpp, sgl"):
        engine_named("tgi")
    assert set(ENGINES.names()) >= {"vllm", "sglang", "llama_cpp", "transformers"}


def test_the_nearest_container_comes_first() -> None:
    vllm = engine_named("vllm")
    both = [Container.SPECULATORS, Container.FLAT]
    found = cell_of(vllm, "eagle3", both)
    assert found is not None
    assert found.container is Container.SPECULATORS
    found = cell_of(vllm, "eagle3", reversed(both))
    assert found is not None
    assert found.container is Container.FLAT
    assert cell_of(vllm, "eagle3", [Container.GGUF]) is None
    assert cell_of(vllm, "dflash", both) is None


def test_reading_proves_nothing() -> None:
    assert [level.proven for level in Level] == [True, True, False]


def test_offsets_are_added_to_positions() -> None:
    found = offset_ids(np.array([1, 1, 5], dtype=np.int32))
    assert found is not None
    assert found.tolist() == [1, 2, 7]
    assert offset_ids(None) is None


@pytest.mark.parametrize(
    ("shape", "stated", "ids"), [((4, 2), 5, None), ((4, 2), 4, 3), (None, 4, 3)]
)
def test_rows_config_and_map_have_to_agree(
    shape: tuple[int, ...] | None, stated: int, ids: int | None
) -> None:
    with pytest.raises(CheckpointError, match="its config says"):
        head_rows(shape, stated, ids, Path("d"))
    assert head_rows((4, 2), 4, 4, Path("d")) == head_rows(None, 4, None, Path("d")) == 4
