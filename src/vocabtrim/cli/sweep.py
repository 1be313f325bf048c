"""`vocabtrim sweep`: the source's tables on a pair of yours.

Finds what was named, calls `pipeline.sweep`, prints the tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.numbers import numbers
from vocabtrim.cli.options import (
    DRAFTER_HELP,
    PROMPTS_HELP,
    TARGET_HELP,
    Debug,
    Force,
    Json,
    Output,
    Quiet,
)
from vocabtrim.core.errors import VocabtrimError


class SweepUsageError(VocabtrimError):
    """The options of `sweep` do not parse."""


def sweep(
    prompts: Annotated[list[Path], typer.Argument(metavar="PROMPTS…", help=PROMPTS_HELP)],
    target: Annotated[str, typer.Option("--target", "-t", metavar="T", help=TARGET_HELP)],
    drafter: Annotated[
        list[str],
        typer.Option("--drafter", "-d", metavar="D", help=f"{DRAFTER_HELP} Repeatable."),
    ],
    counts: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=COUNTS",
            help="Calibration of one kind, as target=, drafter= or raw=; repeatable.",
        ),
    ],
    output: Output,
    usage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COUNTS",
            help="Counts with domains, of any tokenizer: which ids are never used; repeatable.",
        ),
    ] = None,
    top_k: Annotated[
        str | None,
        typer.Option("--top-k", metavar="K,K…", help="Sizes; V, V/2, … V/32 without it."),
    ] = None,
    gamma: Annotated[int, typer.Option(metavar="N", min=1, help="Draft length.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens a prompt.")] = 128,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use only the first N prompts.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Make the source's tables: K, kinds of calibration, tasks, ids never used.

    Each drafter is traced once and everything is replayed. OUT gets sweep.json,
    sweep.md and the traces, which another sweep takes as they are.

    Example: vocabtrim sweep heldout.jsonl -t demo -d demo-eagle3 --counts target=counts.safetensors
    -o results
    """
    from vocabtrim.pipeline.sweep import sweep as run
    from vocabtrim.tensors.locate import locate

    console = Console(json, quiet, force)
    with console.progress("tracing", "answers") as advance:
        result = run(
            prompts,
            locate(target),
            {name: locate(name) for name in drafter},
            output,
            counts=_named(counts, "--counts"),
            usage=_named(usage or [], "--usage"),
            target_name=target,
            sizes=numbers(top_k, "--top-k") if top_k is not None else [],
            gamma=gamma,
            max_new_tokens=max_new_tokens,
            limit=limit,
            raw=raw,
            force=force,
            progress=advance,
        )
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())


def _named(pairs: list[str], option: str) -> dict[str, Path]:
    named = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path) or name in named:
            raise SweepUsageError(f"{option} takes NAME=FILE, each name once, found {pair!r}")
        named[name] = Path(path)
    return named
