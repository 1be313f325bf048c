"""`vocabtrim families`, `rules` and `sources` list what the registries hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from vocabtrim.core.registry import Registry
from vocabtrim.engines.base import ENGINES
from vocabtrim.families.base import FAMILIES
from vocabtrim.rules.base import RULES
from vocabtrim.sources.base import SOURCES


@pytest.mark.parametrize(
    ("verb", "registry"), [("families", FAMILIES), ("rules", RULES), ("sources", SOURCES)]
)
def test_every_plug_in_has_a_line(
    vocabtrim: Command, tmp_path: Path, verb: str, registry: Registry
) -> None:
    outcome = vocabtrim(verb, "--json", tmp_path / "r.json")
    assert outcome.code == 0
    listed = json.loads((tmp_path / "r.json").read_text())[verb]
    for name, line, shown in zip(registry.names(), outcome.out.splitlines(), listed, strict=True):
        assert line.startswith(name)
        assert shown.startswith(name)
        assert len(listed[shown]) > 10


def test_every_cell_of_every_engine_has_a_line(vocabtrim: Command, tmp_path: Path) -> None:
    outcome = vocabtrim("engines", "--json", tmp_path / "r.json")
    assert outcome.code == 0
    listed = json.loads((tmp_path / "r.json").read_text())["engines"]
    cells = [(e.name, c.family, c.level) for e in ENGINES.load_all().values() for c in e.cells]
    assert [(one["engine"], one["family"], one["level"]) for one in listed] == cells
    for line, (name, family, level) in zip(outcome.out.splitlines(), cells, strict=True):
        assert line.startswith(name)
        assert family in line
        assert level in line
