"""`vocabtrim trace`: what a drafter ranks best along the target's own answers.

Finds what was named, calls `pipeline.trace` or, for sampled answers,
`pipeline.trace_sampled`, prints the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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

SAMPLED = "Sampled texts"
CANDIDATES = 32


class TraceUsageError(VocabtrimError):
    """The options of `trace` contradict each other."""


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
        int | None,
        typer.Option(metavar="M", min=1, help="Ids kept at each position and depth (32)."),
    ] = None,
    resolve: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Counts, or a draft vocabulary, for which to leave no position open; repeatable.",
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="0 is greedy.", rich_help_panel=SAMPLED)
    ] = 0.0,
    top_k: Annotated[
        int | None,
        typer.Option(metavar="N", help="Ids kept before the nucleus.", rich_help_panel=SAMPLED),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="P", help="Mass of the nucleus.", rich_help_panel=SAMPLED),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Root of all draws.", rich_help_panel=SAMPLED)
    ] = 0,
    counts: Annotated[
        Path | None,
        typer.Option(
            metavar="COUNTS",
            help="Counts in whose order vocabularies take ids.",
            rich_help_panel=SAMPLED,
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="K,K…", help="Sizes; powers of two without it.", rich_help_panel=SAMPLED
        ),
    ] = None,
    exact_k: Annotated[
        bool,
        typer.Option(
            "--exact-k",
            help="Do not round K up to a multiple of 64.",
            rich_help_panel=SAMPLED,
        ),
    ] = False,
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

    With --temperature the answers are sampled. Recorded are the chances by which
    their tokens were accepted drafts, for sizes in the order of --counts;
    `replay` and `plan` then answer in expectation.

    Example: vocabtrim trace prompts.jsonl -t demo -d demo-eagle3 -o trace.safetensors
    """
    from vocabtrim.core.trace_file import holds_trace
    from vocabtrim.pipeline.resolve import resolve_trace
    from vocabtrim.pipeline.trace import trace as trace_greedy
    from vocabtrim.pipeline.trace_sampled import trace_sampled
    from vocabtrim.pipeline.traced_texts import Asking
    from vocabtrim.tensors.locate import locate

    sampled = {"--top-k": top_k, "--top-p": top_p, "--counts": counts, "--sizes": sizes}
    sampled |= {"--seed": seed or None, "--exact-k": exact_k or None}
    greedy = {"--resolve": resolve or None, "--candidates": candidates}
    _refuse_mixture(temperature, sampled, greedy)
    console = Console(json, quiet, force)
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    asking = Asking(
        prompts,
        locate(target),
        max_new_tokens,
        target,
        limit,
        batch_size=batch_size,
        dtype=dtype,
        raw=raw,
        sampling=sampling if temperature else None,
    )
    result: Any
    with console.progress("tracing", "answers") as advance:
        more: dict[str, Any] = {"drafter_name": drafter, "force": force, "progress": advance}
        models = (locate(drafter), output)
        if resolve and len(prompts) == 1 and holds_trace(prompts[0]):
            result = resolve_trace(prompts[0], resolve, asking.target, *models, force=force)
        elif temperature and counts is not None:
            named = numbers(sizes, "--sizes") if sizes is not None else []
            options: dict[str, Any] = {"sizes": named, "exact": exact_k, **more}
            result = trace_sampled(asking, *models, gamma=gamma, counts=counts, **options)
        else:
            width = CANDIDATES if candidates is None else candidates
            result = trace_greedy(
                asking, *models, gamma=gamma, width=width, resolve=resolve or [], **more
            )
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())


def _refuse_mixture(
    temperature: float, sampled: Mapping[str, object], greedy: Mapping[str, object]
) -> None:
    """Refuse options of sampled texts without a temperature, and the other way round."""
    if temperature:
        if sampled["--counts"] is None or any(value is not None for value in greedy.values()):
            raise TraceUsageError(
                f"a trace of sampled texts takes --counts, and neither {' nor '.join(greedy)}"
            )
    elif given := [option for option, value in sampled.items() if value is not None]:
        raise TraceUsageError(f"{given[0]} is for sampled texts: give --temperature, above 0")
