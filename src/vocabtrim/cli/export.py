"""`vocabtrim export`: a drafter or a draft vocabulary as others read it.

Calls `pipeline.export` and prints what it made and the command that serves it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import TARGET_HELP, Debug, Force, Json, Output, Quiet


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A drafter, from `trim`, for an engine; a draft vocabulary, from `select`, for a "
            "list of ids.",
        ),
    ],
    output: Output,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORM",
            help="vllm, sglang, llama.cpp or transformers; ids-json, ids-txt, ids-npy or ids-pt.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="T", help=f"{TARGET_HELP} llama.cpp's converter reads it."),
    ] = None,
    unproven: Annotated[
        bool,
        typer.Option("--unproven", help="Write also what is known from an engine's source only."),
    ] = False,
    converter: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND", help="Runs llama.cpp's convert_hf_to_gguf.py, for llama.cpp."
        ),
    ] = None,
    gamma: Annotated[
        int, typer.Option(metavar="N", min=1, help="Draft length, in the command that serves it.")
    ] = 3,
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which family is meant, where SOURCE is of several."),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write a drafter as an engine takes it, or a draft vocabulary as a list of ids.

    What is written for an engine is read back by that engine's rules, and the
    command that serves it is printed; `vocabtrim engines` says what each takes
    and how far that is proven. Lists hold absolute ids, ascending: ids-json with
    V and the tokenizer's fingerprint, ids-txt an id a line, ids-npy a vector of
    int32; ids-pt is the list that SGLang's --speculative-token-map loads.

    Example: vocabtrim export smaller --to vllm -o for-vllm --target org/model
    """
    from vocabtrim.pipeline.export import export as run

    console = Console(json, quiet, force)
    result = run(
        source,
        to,
        output,
        target=target,
        unproven=unproven,
        converter=converter,
        gamma=gamma,
        family=family,
        force=force,
    )
    for warning in result.warnings:
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
