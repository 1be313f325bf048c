"""`vocabtrim export`: a draft vocabulary as others read it.

Calls `pipeline.export` and prints the files that it made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import Debug, Force, Json, Output, Quiet


def export(
    vocab: Annotated[
        Path, typer.Argument(metavar="VOCAB", help="Draft vocabulary, from `select`.")
    ],
    output: Output,
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORM", help="ids-json, ids-txt, ids-npy or ids-pt."),
    ],
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write a draft vocabulary as the list of ids that others read.

    The ids are absolute and ascend. ids-json holds V and the tokenizer's
    fingerprint too, ids-txt an id a line, ids-npy a vector of int32; ids-pt is
    the list that SGLang's --speculative-token-map loads, with a JSON twin.

    Example: vocabtrim export vocab.safetensors --to ids-json -o ids.json
    """
    from vocabtrim.pipeline.export import export as run

    console = Console(json, quiet, force)
    result = run(vocab, to, output, force=force)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
