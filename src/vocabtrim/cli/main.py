"""The command `vocabtrim`: verbs in the order of the work, and the one catch site.

An error of ours becomes one line on stderr and its exit code; `--debug` shows
the traceback. Verbs import what they run inside their functions, so that
`--help` stays fast and never loads torch.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vocabtrim.cli.bench import EngineCommand, bench
from vocabtrim.cli.check import check
from vocabtrim.cli.count import count
from vocabtrim.cli.demo import demo
from vocabtrim.cli.eval import evaluate
from vocabtrim.cli.export import export
from vocabtrim.cli.fit import fit
from vocabtrim.cli.generate import generate
from vocabtrim.cli.inspect import inspect
from vocabtrim.cli.plan import plan
from vocabtrim.cli.plugins import engines, families, rules, sources
from vocabtrim.cli.replay import replay
from vocabtrim.cli.select import select
from vocabtrim.cli.sweep import sweep
from vocabtrim.cli.trace import trace
from vocabtrim.cli.trim import trim
from vocabtrim.core.errors import MissingExtra, VocabtrimError

ALL = "All at once"
WORK = "The work, in order"
LOOK = "Look at things"

EXTRAS = {
    "torch": "torch",
    "transformers": "torch",
    "pyarrow": "data",
    "fsspec": "data",
    "zstandard": "data",
}
"""Packages that the base install does not bring, and the extra that does."""


class Verbs(TyperGroup):
    """The verbs as one group, of which an interrupt has the shell's exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="vocabtrim",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Trim the LM head of a speculative-decoding drafter to the ids that matter.\n\n"
        "With vocabularies of 128K to 256K ids, most of what a draft step reads is the LM head. "
        "vocabtrim counts which ids your traffic needs, keeps those rows, and maps drafted ids "
        "back. The target is untouched, so its output stays the same.\n\n"
        "[bold]count[/bold] → [bold]select[/bold] → [bold]trim[/bold]: from text and a drafter "
        "to a smaller drafter."
    ),
    epilog="Exit codes: 0 fine, 1 a fault of ours or of the machine, 2 bad input, "
    "3 a difference or fault found, 4 finished in part (run again), 130 interrupted.",
)
app.command(rich_help_panel=ALL)(fit)
app.command(rich_help_panel=ALL)(demo)
app.command(rich_help_panel=WORK)(count)
app.command(rich_help_panel=WORK)(generate)
app.command(rich_help_panel=WORK)(select)
app.command(rich_help_panel=WORK)(trim)
app.command(rich_help_panel=WORK)(check)
app.command("eval", rich_help_panel=WORK)(evaluate)
app.command(rich_help_panel=WORK)(trace)
app.command(rich_help_panel=WORK)(replay)
app.command(rich_help_panel=WORK)(plan)
app.command(rich_help_panel=WORK)(export)
app.command(cls=EngineCommand, rich_help_panel=WORK)(bench)
app.command(rich_help_panel=WORK)(sweep)
app.command(rich_help_panel=LOOK)(inspect)
app.command(rich_help_panel=LOOK)(engines)
app.command(rich_help_panel=LOOK)(families)
app.command(rich_help_panel=LOOK)(rules)
app.command(rich_help_panel=LOOK)(sources)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vocabtrim {version('vocabtrim')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line and exit with the code of what happened."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: What follows `vocabtrim` on the command line.
    """
    try:
        app(arguments, prog_name="vocabtrim")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (VocabtrimError, OSError) as fault:
        return _failed(fault, arguments)
    except ModuleNotFoundError as fault:
        if fault.name not in EXTRAS:
            raise
        extra = MissingExtra(f"this needs the package {fault.name}", EXTRAS[fault.name])
        return _failed(extra, arguments)
    return 0


def _failed(fault: VocabtrimError | OSError, arguments: list[str]) -> int:
    """Say what went wrong and return its exit code; with --debug, raise it."""
    if "--debug" in arguments:
        raise fault
    typer.secho(f"error: {fault}", err=True, fg=typer.colors.RED)
    return fault.exit_code if isinstance(fault, VocabtrimError) else 1
