"""`vocabtrim check`: faults of a drafter, and what each engine makes of them.

Calls `pipeline.check`, prints a line for each finding, and exits with 3 where one
of them is a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import PROMPTS_HELP, TARGET_HELP, Debug, Force, Json, Quiet

FOUND = 3


def check(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A drafter: a directory, a GGUF file, a hub or built-in name; or a list of ids.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="T", help=f"{TARGET_HELP} Its rows and ids are compared."),
    ] = None,
    vocab: Annotated[
        Path | None,
        typer.Option("--vocab", metavar="V", help="The draft vocabulary that it should hold."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Count only what this engine minds; several may be."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 for a loss too, not for faults only.")
    ] = False,
    probe: Annotated[
        Path | None,
        typer.Option(metavar="PROMPTS", help=f"Draft a little on these: {PROMPTS_HELP}"),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Find what is wrong with a drafter, whoever made it.

    Each line names what is stored and what would happen in which engine. A fault
    is refused or drafted wrongly by one of them, most often in silence (exit
    code 3); a loss costs speed; a note is harmless. With --target, rows of the
    head are compared with the target's, which tells a wrong map from a right
    one; --probe decodes, and compares acceptance with the map undone and with
    neighbouring feature layers.

    Example: vocabtrim check smaller --target org/model --engine vllm
    """
    from vocabtrim.pipeline.check import check as run
    from vocabtrim.tokens.prompts import read_prompts

    console = Console(json, quiet, force)
    prompts = [] if probe is None else read_prompts([probe])
    result = run(checkpoint, target=target, vocab=vocab, engines=tuple(engine or ()), probe=prompts)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
    if result.failed(strict=strict):
        raise typer.Exit(FOUND)
