"""`vocabtrim inspect`: what a file or a checkpoint is.

Calls `pipeline.inspect` and prints its lines.
"""

from __future__ import annotations

from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import TARGET_HELP, Debug, Force, Json, Quiet


def inspect(
    artifact: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT", help="A drafter, a target, counts, or a draft vocabulary."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="T", help=f"{TARGET_HELP} Says more where the head is the target's."),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="As what to look at a drafter of several families."),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Tell in a dozen lines what a file of ours, a drafter or a target is.

    Example: vocabtrim inspect demo-eagle3 --target demo
    """
    from vocabtrim.pipeline.inspect import inspect as run

    console = Console(json, quiet, force)
    result = run(artifact, target=target, family=family)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
