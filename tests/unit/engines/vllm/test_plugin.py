"""What vLLM's processes get from the plug-in, and what it costs those that need nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.fake_vllm import Ranks, install
from tools.engines import VLLM
from vocabtrim.engines.vllm import plugin
from vocabtrim.engines.vllm.architectures import ARCHITECTURES
from vocabtrim.engines.vllm.exporter import PLUGIN

ROOT = Path(__file__).parents[4]


def test_the_package_announces_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name,) = points = project["entry-points"]["vllm.general_plugins"]
    point = EntryPoint(name, points[name], "vllm.general_plugins")
    assert point.load() is plugin.register


def test_the_extra_brings_nothing_that_vllm_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["vllm"] == []


def test_nothing_is_imported_before_vllm_calls() -> None:
    script = "import sys, vocabtrim.engines.vllm.plugin; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    heavy = {"torch", "transformers", "vllm", "numpy", "safetensors", "tokenizers", "gguf"}
    assert not loaded & heavy
    ours = {one for one in loaded if one.startswith("vocabtrim.")}
    assert ours == {
        "vocabtrim.engines",
        "vocabtrim.engines.vllm",
        "vocabtrim.engines.vllm.architectures",
        "vocabtrim.engines.vllm.plugin",
    }


def test_it_adds_names_and_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = install(monkeypatch, Ranks())
    plugin.register()
    plugin.register()
    assert registry.registered.keys() == ARCHITECTURES.keys()
    assert not registry.registered.keys() & registry.models.keys()
    assert set(registry.registered.values()) == {f"{plugin.MODELS}:{one}" for one in ARCHITECTURES}


def test_it_stays_quiet_in_a_version_that_was_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks(), version="0.99.0")
    plugin.register()


@pytest.mark.parametrize("version", ["0.32.0", "0.32.0+cpu"])
def test_tested_versions(version: str) -> None:
    plugin.refuse_untested(version)


@pytest.mark.parametrize("version", ["0.31.9", "0.32.1", "0.32.0rc1", "0.320.0", "dev"])
def test_other_versions_are_refused_in_a_sentence(version: str) -> None:
    with pytest.raises(ValueError, match=r"tested with vLLM 0\.32\.0, found") as caught:
        plugin.refuse_untested(version)
    assert version in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_engine_tests_run_a_tested_version() -> None:
    assert VLLM in plugin.TESTED
    assert PLUGIN.version in plugin.TESTED
