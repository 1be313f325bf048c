"""Where output goes: data to stdout, talk to stderr, results to --json.

Progress is a bar on a terminal and a plain line every few seconds otherwise.
Nothing here decides anything.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import typer

PLAIN_LINE_EVERY_S = 5.0


class Advance(Protocol):
    """Shows how far a work is."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show that `done` of `total` is done; total is 0 where it is not known."""
        ...


@dataclass(frozen=True)
class Console:
    """The output of one verb.

    Args:
        json_path: Where to write the result document; "-" for stdout.
        quiet: Say nothing but errors.
        force: Replace `json_path` if it exists.
    """

    json_path: Path | None
    quiet: bool
    force: bool

    def __post_init__(self) -> None:
        from vocabtrim.core.manifest import refuse_existing

        if self.json_path is not None and str(self.json_path) != "-":
            refuse_existing(self.json_path, force=self.force)

    def data(self, text: str) -> None:
        """Print a line of the result to stdout."""
        if not self.quiet and str(self.json_path) != "-":
            typer.echo(text)

    def talk(self, text: str) -> None:
        """Print a remark to stderr."""
        if not self.quiet:
            typer.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Print a warning to stderr, also where `quiet` is given."""
        typer.secho(f"warning: {text}", err=True, fg=typer.colors.YELLOW)

    def result(self, document: dict[str, Any]) -> None:
        """Write the result document to `--json`, where asked for."""
        from vocabtrim.core.manifest import atomic_file

        if self.json_path is None:
            return
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        if str(self.json_path) == "-":
            sys.stdout.write(text)
            return
        with atomic_file(self.json_path, force=self.force) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @contextmanager
    def progress(self, what: str, unit: str) -> Iterator[Advance]:
        """Yield a callback that shows how far `what` is.

        Args:
            what: The work, as a verb in -ing form.
            unit: "bytes" is shown in MB; anything else is counted.
        """
        if self.quiet:
            yield lambda _done, _total, _note="": None
        elif sys.stderr.isatty():
            with _bar(what) as advance:
                yield advance
        else:
            yield _plain_lines(what, unit)


@contextmanager
def _bar(what: str) -> Iterator[Advance]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        "{task.percentage:>3.0f}%",
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=RichConsole(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, note="")
        yield lambda done, total, note="": progress.update(
            task, completed=done, total=total or None, note=note
        )


def _plain_lines(what: str, unit: str) -> Advance:
    last = time.monotonic()

    def advance(done: int, total: int, note: str = "", /) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_LINE_EVERY_S:
            last = now
            scale, name = (1e6, "MB") if unit == "bytes" else (1, unit)
            of = f" of {total / scale:,.0f}" if total else ""
            more = f", {note}" if note else ""
            typer.echo(f"{what}: {done / scale:,.0f}{of} {name}{more}", err=True)

    return advance
