"""`vocabtrim fit`: the verb for newcomers, from traffic to what an engine serves.

Reads what was typed, calls `pipeline.fit`, prints what it came to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.count import told
from vocabtrim.cli.options import DRAFTER_HELP, TARGET_HELP, Debug, Force, Json, Output, Quiet

SIZE = "How K is chosen, where not by what is possible on held-out traffic"
MORE = "Where it does not go by itself"


def fit(
    drafter: Annotated[str, typer.Argument(metavar="DRAFTER", help=DRAFTER_HELP)],
    target: Annotated[str, typer.Option("--target", "-t", metavar="T", help=TARGET_HELP)],
    traffic: Annotated[
        list[str],
        typer.Option(
            metavar="LOGS",
            help="What the target emits in service: logs, chats, text; repeatable. As for `count`.",
        ),
    ],
    engine: Annotated[
        str,
        typer.Option("--engine", "-e", metavar="E", help="vllm, sglang, llama.cpp, transformers."),
    ],
    output: Output,
    gamma: Annotated[int, typer.Option(metavar="N", min=1, help="Draft length of the engine.")] = 3,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", metavar="K", min=1, help="Take K rows.", rich_help_panel=SIZE),
    ] = None,
    trace: Annotated[
        list[Path] | None,
        typer.Option(metavar="TRACE", help="Of this pair, from `trace`.", rich_help_panel=SIZE),
    ] = None,
    latency: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="From `bench --micro`, or `bench --json` on the engine.",
            rich_help_panel=SIZE,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="T", help="Of the target, where it has none.", rich_help_panel=MORE),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which family is meant, where DRAFTER is of several.",
            rich_help_panel=MORE,
        ),
    ] = None,
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="Whose turns count.", rich_help_panel=MORE)
    ] = "assistant",
    cap_per_document: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Let an id count at most N times in a document: loops.",
            rich_help_panel=MORE,
        ),
    ] = None,
    unproven: Annotated[
        bool,
        typer.Option(
            "--unproven",
            help="Write also what is known from an engine's source only.",
            rich_help_panel=MORE,
        ),
    ] = False,
    converter: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Runs llama.cpp's convert_hf_to_gguf.py, for llama.cpp.",
            rich_help_panel=MORE,
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Count anew, whatever an earlier fit counted.",
            rich_help_panel=MORE,
        ),
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Make a smaller drafter of your drafter and traffic, as your engine loads it.

    Counts the traffic, chooses K, trims, checks and exports; says where the bytes
    are, whether the traffic is enough, why this K, what is dropped, and how it is
    served. By default K is the smallest that keeps 97 % of what is possible at
    --gamma on traffic held out; with --trace, the fastest by `plan`. Where trimming
    does not pay it says so and makes nothing. The same command continues a fit that
    was interrupted; --force begins another in its place.

    Example: vocabtrim fit DRAFTER --target T --traffic logs/ --engine vllm -o fitted
    """
    from vocabtrim.pipeline.fit import Fit
    from vocabtrim.pipeline.fit import fit as run

    console = Console(json, quiet, force)
    asked = Fit(
        drafter,
        target,
        traffic,
        engine,
        output,
        gamma=gamma,
        top_k=top_k,
        traces=trace or [],
        latency=latency,
        tokenizer=tokenizer,
        family=family,
        role=role,
        cap_per_document=cap_per_document,
        unproven=unproven,
        converter=converter,
    )
    with console.progress("counting", "bytes") as advance:
        result = run(
            asked, force=force, restart=restart, progress=told(advance), notice=console.talk
        )
    made = result.made
    exported = () if made is None or made.exported is None else made.exported.warnings
    trimmed = () if made is None else made.trimmed.warnings
    for warning in (*result.counted.warnings, *result.warnings, *trimmed, *exported):
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
    if result.faulty:
        raise typer.Exit(3)
