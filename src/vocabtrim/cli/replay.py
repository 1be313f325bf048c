"""`vocabtrim replay`: what decoding would come to, from a trace alone.

Reads what was typed, calls `pipeline.replay`, prints the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.numbers import numbers
from vocabtrim.cli.options import Debug, Force, Json, Quiet


def replay(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="What `trace` wrote.")],
    vocab: Annotated[
        list[Path] | None, typer.Option(metavar="V", help="A draft vocabulary; repeatable.")
    ] = None,
    counts: Annotated[
        Path | None, typer.Option(metavar="COUNTS", help="Counts to choose --top-k ids from.")
    ] = None,
    top_k: Annotated[
        str | None, typer.Option("--top-k", metavar="K,K…", help="Sizes to choose from counts.")
    ] = None,
    gamma: Annotated[
        str, typer.Option(metavar="N,N…|N-N", help="Draft lengths, as 1,2,4 or 1-8.")
    ] = "1-4",
    exact_k: Annotated[
        bool, typer.Option("--exact-k", help="Do not round K up to a multiple of 64.")
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Say what decoding with any vocabulary and draft length comes to.

    Exact for greedy chain drafting, cycle by cycle, and without a model: block
    efficiency with a 95 % interval over prompts.

    Example: vocabtrim replay trace.safetensors --counts counts.safetensors --top-k 1024,4096
    """
    from vocabtrim.pipeline.replay import replay_trace as run

    console = Console(json, quiet, force)
    result = run(
        trace,
        gammas=numbers(gamma, "--gamma"),
        vocabs=vocab or [],
        counts=counts,
        sizes=numbers(top_k, "--top-k") if top_k is not None else [],
        exact=exact_k,
    )
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
