"""The list of known faults in the docs names checks that there are, and all of them."""

from __future__ import annotations

from pathlib import Path

from tests.planted_faults import PLANTED
from vocabtrim.pipeline.checks.base import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "check.md"


def rows() -> list[list[str]]:
    """Return what is wrong and what finds it, line by line."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("| what is wrong | found by |", 1)[1].split("\n\n", 1)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_check_finds_one_of_the_known_faults_and_every_fault_is_found() -> None:
    found = [name for _, names in rows() for name in names.split(", ")]
    checks = {one.name for group in CHECKS.load_all().values() for one in group}
    assert set(found) == checks
    assert {one.check for one in PLANTED} == checks
    assert len(rows()) >= 20
