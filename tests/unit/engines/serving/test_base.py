from __future__ import annotations

import pytest

from vocabtrim.core.errors import PluginError
from vocabtrim.engines.base import engine_named
from vocabtrim.engines.serving.base import SERVERS, EngineError, refuse_ours, serving_named


def test_an_engine_goes_by_its_name_and_by_its_key() -> None:
    assert serving_named("llama.cpp") is serving_named("llama_cpp")
    assert serving_named("vllm").name == "vllm"
    with pytest.raises(PluginError, match=r"'tgi'; there are llama\.cpp, vllm"):
        serving_named("tgi")


@pytest.mark.parametrize("key", SERVERS.names())
def test_an_engine_that_serves_is_one_that_is_exported_to(key: str) -> None:
    engine = SERVERS.load(key)
    exported = engine_named(engine.name)
    assert exported.name == engine.name
    families = {cell.family for cell in exported.cells if cell.container is engine.container}
    assert families <= set(engine.methods)


@pytest.mark.parametrize("key", SERVERS.names())
def test_what_a_measurement_sets_is_refused_in_either_spelling(key: str) -> None:
    engine = SERVERS.load(key)
    for option in engine.ours:
        for argument in (option, f"{option}=7"):
            with pytest.raises(EngineError, match=f"{option} is set by the measurement"):
                refuse_ours(engine, ["-t", "2", argument])
    refuse_ours(engine, ["-t", "2", "--portrait"])
