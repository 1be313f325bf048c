"""`vocabtrim generate`: prompts to what the target answers.

Reads what was typed, calls `pipeline.generate`, prints the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import PROMPTS_HELP, TARGET_HELP, Debug, Force, Json, Output, Quiet

SAMPLING = "How tokens are chosen"


def generate(
    prompts: Annotated[list[Path], typer.Argument(metavar="PROMPTS…", help=PROMPTS_HELP)],
    model: Annotated[str, typer.Option("--model", "-m", metavar="M", help=TARGET_HELP)],
    output: Output,
    max_new_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tokens an answer, at most.")
    ] = 128,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Answer only the first N prompts.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="0 is greedy.", rich_help_panel=SAMPLING)
    ] = 0.0,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="Ids considered.", rich_help_panel=SAMPLING)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Nucleus mass.", rich_help_panel=SAMPLING)
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="Answers a prompt.", rich_help_panel=SAMPLING)
    ] = 1,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Root of all draws.", rich_help_panel=SAMPLING)
    ] = 0,
    batch_size: Annotated[int, typer.Option(metavar="B", help="Rows of a pass.")] = 64,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Let the target answer prompts: the best calibration data there is.

    One JSONL line an answer, flushed at once; run the same command again to
    continue after an interruption. Draws depend on seed, prompt id and position
    alone.

    Example: vocabtrim generate prompts.jsonl --model demo -o answers.jsonl
    """
    from vocabtrim.pipeline.generate import generate as run
    from vocabtrim.tensors.locate import locate

    console = Console(json, quiet, force)
    with console.progress("generating", "answers") as advance:
        result = run(
            prompts,
            locate(model),
            output,
            max_new_tokens=max_new_tokens,
            model=model,
            limit=limit,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            samples=samples,
            seed=seed,
            batch_size=batch_size,
            dtype=dtype,
            raw=raw,
            force=force,
            progress=advance,
        )
    for warning in result.warnings:
        console.warn(warning)
    continued = f" ({result.continued:,} from an earlier run)" if result.continued else ""
    console.data(f"answers  {result.completions:,}{continued}  →  {result.output}")
    rate = "" if result.tokens_per_second is None else f", {result.tokens_per_second:.0f} a second"
    console.data(f"tokens   {result.new_tokens:,} new{rate}; {result.stopped:,} answers ended")
    console.result(result.to_json())
