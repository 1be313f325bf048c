"""`vocabtrim trim`: a drafter and a draft vocabulary to a smaller drafter.

Finds the checkpoints that were named, calls `pipeline.trim`, prints the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import TARGET_HELP, Debug, Force, Json, Quiet


def trim(
    drafter: Annotated[
        str,
        typer.Argument(
            metavar="DRAFTER",
            help="Drafter: a directory, a GGUF file, a hub name, 'demo-eagle3' or 'demo-lm'.",
        ),
    ],
    vocab: Annotated[
        Path, typer.Option("--vocab", metavar="FILE", help="Draft vocabulary, from `select`.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="The directory to make; of a drafter that is a GGUF file, the file.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="T", help=f"{TARGET_HELP} Needed where the head is the target's."),
    ] = None,
    head_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Write the head's rows as f16, bf16 or f32; in GGUF also as q8_0, q4_0 and the "
            "like. Without it no bit of a kept row changes.",
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which family is meant, where DRAFTER is of several."),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write a drafter whose LM head holds only the rows of a draft vocabulary.

    Kept rows and every other tensor are copied byte for byte; `d2t`, `t2d` and
    `draft_vocab_size` say which ids the rows stand for. A GGUF drafter is
    trimmed to a GGUF file.

    Example: vocabtrim trim demo-eagle3 --vocab vocab.safetensors --target demo -o smaller
    """
    from vocabtrim.core.vocab_file import read_vocab
    from vocabtrim.pipeline.trim import trim as run
    from vocabtrim.tensors.locate_pair import locate_pair

    console = Console(json, quiet, force)
    ids, manifest = read_vocab(vocab)
    place, beside = locate_pair(drafter, target)
    if Path(drafter).expanduser().is_file() and place.is_dir():
        console.warn(
            f"llama.cpp has no reduced head for a model like {drafter}: it was converted, and "
            f"{output} becomes a directory of safetensors"
        )
    result = run(
        place,
        ids,
        output,
        target=beside,
        head_type=head_type,
        family=family,
        vocab_manifest=manifest,
        force=force,
    )
    for warning in result.warnings:
        console.warn(warning)
    changed = result.dtype != result.dtype_before
    types = f"{result.dtype_before} → {result.dtype}" if changed else result.dtype
    sign = "added" if result.memory_delta_bytes > 0 else "freed"
    console.data(f"trimmed {result.family}  →  {result.output}")
    console.data(
        f"head          {result.K_before:,} → {result.K:,} rows of {result.hidden} "
        f"({types}), from {result.head_source}"
    )
    console.data(
        f"head bytes    {result.head_bytes_before / 1e6:,.1f} → {result.head_bytes / 1e6:,.1f} MB"
    )
    console.data(
        f"draft step    {result.step_bytes_before / 1e6:,.1f} → {result.step_bytes / 1e6:,.1f} MB "
        f"read ({result.step_bytes / result.step_bytes_before:.0%})"
    )
    console.data(f"memory        {abs(result.memory_delta_bytes) / 1e6:,.1f} MB {sign}")
    console.result(result.to_json())
