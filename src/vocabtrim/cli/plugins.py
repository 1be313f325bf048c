"""`vocabtrim families`, `rules`, `sources` and `engines`: the plug-ins there are.

The lists come from the registries, so a new file shows up by itself.
"""

from __future__ import annotations

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import Debug, Json, Quiet


def families(json: Json = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the drafter families that can be trimmed."""
    from vocabtrim.families.base import FAMILIES

    console = Console(json, quiet, force=False)
    found = {name: family.summary for name, family in FAMILIES.load_all().items()}
    _show(console, "families", found)


def rules(json: Json = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the selection rules and their options."""
    from vocabtrim.rules.base import RULES, usage

    console = Console(json, quiet, force=False)
    found = {}
    for name, rule in RULES.load_all().items():
        first_line = rule.__doc__.strip().splitlines()[0]
        found[usage(name)] = first_line
    _show(console, "rules", found)


def sources(json: Json = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the kinds of files that calibration data is read from."""
    from vocabtrim.sources.base import SOURCES

    console = Console(json, quiet, force=False)
    found = {name: source.summary for name, source in SOURCES.load_all().items()}
    _show(console, "sources", found)


def engines(json: Json = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the engines, what each takes, and how far that is proven.

    Served: a test has it draft with that. Loaded: its own loading code read it in
    a test. By reading: known from its source, written with --unproven only.
    """
    from vocabtrim.engines.base import ENGINES, Engine

    console = Console(json, quiet, force=False)
    found: dict[str, Engine] = ENGINES.load_all()
    rows = [
        (engine.name, engine.version, cell.family, str(cell.container), str(cell.level), cell.note)
        for engine in found.values()
        for cell in engine.cells
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        columns = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        console.data("  ".join([*columns, row[5]]).rstrip())
    keys = ("engine", "version", "family", "container", "level", "note")
    console.result({"engines": [dict(zip(keys, row, strict=True)) for row in rows]})


def _show(console: Console, what: str, found: dict[str, str]) -> None:
    width = max(map(len, found))
    for name, summary in found.items():
        console.data(f"{name:<{width}}  {summary}")
    console.result({what: found})
