"""What every engine must state, and that its page in the docs states the same."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from vocabtrim.engines.base import ENGINES, Engine
from vocabtrim.families.base import FAMILIES
from vocabtrim.pipeline.checks.base import CHECKS
from vocabtrim.tensors.gguf_drafter import KINDS

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


def test_the_docs_have_the_same_cells(engine: Engine) -> None:
    rows = [
        [column.strip() for column in line.strip("|").split("|")]
        for line in (DOCS / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| {engine.name} ")
    ]
    stated = [[engine.name, cell.family, cell.container, cell.level] for cell in engine.cells]
    assert [row[:4] for row in rows] == stated
    assert (DOCS / f"{engine.name.replace('.', '_')}.md").is_file()


def test_the_docs_list_every_check() -> None:
    lines = (DOCS.parent / "check.md").read_text(encoding="utf-8").splitlines()
    every = [one for group in CHECKS.load_all().values() for one in group]
    expected = [f"| {one.name} | {one.severity} | {one.looks_at} |" for one in every]
    assert [line for line in lines if line in expected] == expected
