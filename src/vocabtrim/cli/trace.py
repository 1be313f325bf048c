"""`vocabtrim trace`: what a drafter ranks best along the target's own answers.

Finds what was named, calls `pipeline.trace`, prints the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
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


def trace(
    prompts: Annotated[
        list[Path],
        typer.Argument(
            metavar="PROMPTS…", help=f"{PROMPTS_HELP} With --resolve also a trace, to go on from."
        ),
    ],
    target: Annotated[str, typer.Option("--target", "-t", metavar="T", help=TARGET_HELP)],
    drafter: Annotated[str, typer.Option("--drafter", "-d", metavar="D", help=DRAFTER_HELP)],
    output: Output,
    gamma: Annotated[
        int, typer.Option(metavar="N", min=1, help="Longest draft to be replayed.")
    ] = 8,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens a prompt.")] = 128,
    candidates: Annotated[
        int, typer.Option(metavar="M", min=1, help="Ids kept at each position and depth.")
    ] = 32,
    resolve: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Counts, or a draft vocabulary, for which to leave no position open; repeatable.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use only the first N prompts.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="B", help="Rows while generating.")] = 64,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Record once what `replay` answers for every vocabulary and draft length.

    The target answers the prompts greedily; one more pass over its answers
    records the ids that the drafter ranks best at every position and depth. Run
    the same command again to continue after an interruption. Where M candidates
    do not decide a vocabulary, --resolve looks the open positions up.

    Example: vocabtrim trace prompts.jsonl -t demo -d demo-eagle3 -o trace.safetensors
    """
    from vocabtrim.core.trace_file import holds_trace
    from vocabtrim.pipeline.resolve import resolve_trace
    from vocabtrim.pipeline.trace import trace as run
    from vocabtrim.tensors.locate import locate

    console = Console(json, quiet, force)
    if resolve and len(prompts) == 1 and holds_trace(prompts[0]):
        again = resolve_trace(
            prompts[0], resolve, locate(target), locate(drafter), output, force=force
        )
        for line in again.lines():
            console.data(line)
        console.result(again.to_json())
        return
    with console.progress("tracing", "answers") as advance:
        result = run(
            prompts,
            locate(target),
            locate(drafter),
            output,
            gamma=gamma,
            max_new_tokens=max_new_tokens,
            width=candidates,
            resolve=resolve or [],
            limit=limit,
            target_name=target,
            drafter_name=drafter,
            batch_size=batch_size,
            dtype=dtype,
            raw=raw,
            force=force,
            progress=advance,
        )
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
