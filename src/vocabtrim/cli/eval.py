"""`vocabtrim eval`: full and trimmed drafters side by side, proved and timed.

Finds what was named, calls `pipeline.eval`, prints one row a run.
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
    Quiet,
)
from vocabtrim.core.errors import NotLossless, VocabtrimError


class EvalUsageError(VocabtrimError):
    """The options of `eval` contradict each other or do not parse."""


def evaluate(
    prompts: Annotated[list[Path], typer.Argument(metavar="PROMPTS…", help=PROMPTS_HELP)],
    target: Annotated[str, typer.Option("--target", "-t", metavar="T", help=TARGET_HELP)],
    drafter: Annotated[
        list[str] | None,
        typer.Option("--drafter", "-d", metavar="D", help=f"{DRAFTER_HELP} Repeatable."),
    ] = None,
    vocab: Annotated[
        list[Path] | None,
        typer.Option(metavar="V", help="Also run each drafter over this vocabulary; repeatable."),
    ] = None,
    gamma: Annotated[str, typer.Option(metavar="N,N…", help="Draft lengths.")] = "4",
    max_new_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens a prompt.")] = 128,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use only the first N prompts.")
    ] = None,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, help="Times to measure.")] = 1,
    timed_prompts: Annotated[
        int | None, typer.Option(metavar="N", help="Time only the first N prompts.")
    ] = None,
    temperature: Annotated[float, typer.Option(metavar="T", help="0 is greedy.")] = 0.0,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="Ids kept before the nucleus.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(metavar="P", help="Mass of the nucleus.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Root of all draws.")] = 0,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="Prompts decoded side by side.")
    ] = 1,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Prove that output stays the same, and measure what trimming gains.

    Runs autoregressive decoding, the drafter as it is and over each vocabulary,
    in turns; compares every greedy text with transformers' own. Exit code 3 if a
    text differs by more than rounding. With a temperature, drafts are drawn over
    the draft vocabulary and verified so that the target's distribution remains.

    Example: vocabtrim eval prompts.jsonl --target demo --drafter demo-eagle3 --vocab v.safetensors
    """
    from vocabtrim.core.vocab_file import read_vocab
    from vocabtrim.pipeline.eval import Contender
    from vocabtrim.pipeline.eval import evaluate as run
    from vocabtrim.tensors.locate import locate
    from vocabtrim.tokens.prompts import read_prompts

    console = Console(json, quiet, force)
    gammas = _gammas(gamma)
    vocabs = [read_vocab(path)[0] for path in vocab or []]
    contenders = [
        Contender(name, locate(name), one) for name in drafter or [] for one in [None, *vocabs]
    ]
    with console.progress("decoding", "texts") as advance:
        result = run(
            read_prompts(prompts)[:limit],
            locate(target),
            contenders,
            gammas=gammas,
            max_new_tokens=max_new_tokens,
            target_name=target,
            repeat=repeat,
            timed_prompts=timed_prompts,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            batch=batch,
            dtype=dtype,
            raw=raw,
            progress=advance,
        )
    for warning in result.warnings:
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
    if result.is_lossless is False:
        raise NotLossless(result.difference())


def _gammas(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as fault:
        raise EvalUsageError(f"--gamma takes numbers with commas, found {text!r}") from fault
