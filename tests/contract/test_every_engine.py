"""What every engine must state, and that its page in the docs states the same."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest

from tests import clean_drafters as clean
from tests.tiny import edit
from vocabtrim.engines.base import ENGINES, Container, Engine
from vocabtrim.families.base import FAMILIES
from vocabtrim.pipeline.check import check
from vocabtrim.pipeline.checks.base import CHECKS
from vocabtrim.pipeline.export import export
from vocabtrim.tensors.gguf_drafter import KINDS

TRIMMED = {
    "eagle3": clean.trimmed,
    "independent": clean.trimmed_lm,
    "eagle": clean.trimmed_eagle,
    "mtp": clean.sidecar,
}
"""Family to what writes one of its drafters, trimmed here."""

PROOFS = {
    ("llama.cpp", "eagle3", "gguf"): "engines/test_exports.py::test_llama_cpp_serves_an_export",
    ("llama.cpp", "dflash", "gguf"): (
        "engines/test_llama_cpp.py::test_a_block_drafter_with_rows_of_the_target_is_loaded"
    ),
    ("sglang", "eagle3", "safetensors"): (
        "engines/test_exports.py::test_sglang_reads_ids_and_layers_of_an_export"
    ),
    ("sglang", "eagle", "token map"): (
        "engines/test_exports.py::test_sglang_loads_the_list_of_an_export"
    ),
    ("sglang", "mtp", "token map"): (
        "engines/test_exports.py::test_sglang_loads_the_list_of_an_export"
    ),
    ("transformers", "independent", "safetensors"): (
        "unit/engines/transformers/test_exporter.py::test_generate_drafts_with_what_is_exported"
    ),
    ("transformers", "eagle3", "safetensors"): (
        "unit/engines/transformers/test_exporter.py::test_generate_drafts_with_what_is_exported"
    ),
    ("vllm", "eagle3", "safetensors"): "engines/test_exports.py::test_vllm_serves_an_export",
    ("vllm", "eagle3", "speculators"): "engines/test_exports.py::test_vllm_serves_an_export",
    ("vllm", "mtp", "safetensors"): (
        "engines/test_vllm_plugin.py::"
        "test_prediction_layers_over_fewer_ids_accept_what_the_reference_does"
    ),
    ("vllm", "independent", "safetensors"): (
        "engines/test_vllm_plugin.py::test_an_lm_over_fewer_ids_accepts_what_our_decoder_does"
    ),
    ("vllm", "eagle", "safetensors"): "engines/test_vllm_plugin.py::test_eagle_1",
}
"""What an engine is said to serve or load → the test in which it does."""

TESTS = Path(__file__).parents[1]
DOCS = Path(__file__).parents[2] / "docs" / "engines"


@pytest.fixture(params=ENGINES.names())
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = ENGINES.load(request.param)
    assert found.name.replace(".", "_") == request.param
    return found


def test_it_says_what_it_is(engine: Engine) -> None:
    assert engine.summary.count("\n") == 0
    assert 10 < len(engine.summary) < 100
    assert engine.version
    assert engine.cells


def test_its_cells_are_of_known_families_and_each_stands_once(engine: Engine) -> None:
    known = {*FAMILIES.names(), *KINDS}
    assert {cell.family for cell in engine.cells} <= known
    keys = [(cell.family, cell.container) for cell in engine.cells]
    assert len(set(keys)) == len(keys)


def test_its_commands_are_words_of_a_shell(engine: Engine) -> None:
    for cell in engine.cells:
        command = engine.command(Path("a place/with spaces"), "org/target", cell)
        words = shlex.split(command)
        assert "org/target" in words
        assert any("a place/with spaces" in word for word in words)


def test_its_config_keeps_what_it_does_not_change(engine: Engine) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "vocab_size": 9, "hidden_size": 4}
    for cell in engine.cells:
        changed = engine.config(config, cell.container, owns_head=True)
        assert changed["vocab_size"] == 9
        assert changed["hidden_size"] == 4
    assert config == {"architectures": ["LlamaForCausalLM"], "vocab_size": 9, "hidden_size": 4}


def test_what_is_said_to_be_proven_is_done_in_a_test(engine: Engine) -> None:
    proven = {
        (engine.name, one.family, str(one.container)) for one in engine.cells if one.level.proven
    }
    assert proven == {cell for cell in PROOFS if cell[0] == engine.name}
    for cell in proven:
        file, name = PROOFS[cell].split("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}, cell


def test_nothing_unproven_is_in_the_readme(engine: Engine) -> None:
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    proven = any(one.level.proven for one in engine.cells)
    assert proven or f"--to {engine.name}" not in readme
    assert "--unproven" not in readme


@pytest.mark.parametrize("family", TRIMMED)
def test_check_finds_nothing_in_what_is_exported(
    engine: Engine, tmp_path: Path, family: str
) -> None:
    cells = [one for one in engine.cells if one.family == family and one.level.proven]
    if not cells or cells[0].container is Container.GGUF:
        return  # that takes the engine's own converter
    drafter = TRIMMED[family](tmp_path / "a" / "d")
    if engine.name == "vllm" and family == "eagle":
        edit(drafter, drop=["fc.bias"], config={"bias": False})
    export(drafter, engine.name, tmp_path / "out")
    for engines in ((), (engine.name,)):
        result = check(str(tmp_path / "out"), engines=engines)
        faults = [one.line() for one in result.findings if one.name != "no-reader"]
        assert not result.failed(strict=False), faults


def test_the_docs_have_the_same_cells(engine: Engine) -> None:
    rows = [
        [column.strip() for column in line.strip("|").split("|")]
        for line in (DOCS / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| {engine.name} ")
    ]
    stated = [[engine.name, cell.family, cell.container, cell.level] for cell in engine.cells]
    assert [row[:4] for row in rows] == stated
    assert (DOCS / f"{engine.name.replace('.', '-')}.md").is_file()


def test_the_docs_list_every_check() -> None:
    lines = (DOCS.parent / "check.md").read_text(encoding="utf-8").splitlines()
    every = [one for group in CHECKS.load_all().values() for one in group]
    expected = [f"| {one.name} | {one.severity} | {one.looks_at} |" for one in every]
    assert [line for line in lines if line in expected] == expected
