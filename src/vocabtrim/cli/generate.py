"""`vocabtrim generate`: prompts to what a model answers.

Reads what was typed, calls `pipeline.generate`, or `pipeline.generate_served`
for a server, prints the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from json import loads as load_json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from vocabtrim.core.errors import Unfinished, VocabtrimError

if TYPE_CHECKING:
    from vocabtrim.pipeline.answering import Advance, Failure, GenerateResult

SAMPLING = "How tokens are chosen"
SERVED = "A server instead of a model in this process"
LISTED = 100
"""Ids shown for one reason; `--json` has all."""


class GenerateUsageError(VocabtrimError):
    """The options of `generate` contradict each other."""


def generate(
    prompts: Annotated[list[Path], typer.Argument(metavar="PROMPTS…", help=PROMPTS_HELP)],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="M", help=f"{TARGET_HELP} At a server: its name there."
        ),
    ],
    output: Output,
    max_new_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tokens an answer, at most.")
    ] = 128,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Answer only the first N prompts.")
    ] = None,
    drafter: Annotated[
        str | None,
        typer.Option("--drafter", "-d", metavar="D", help=f"Let it write. {DRAFTER_HELP}"),
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
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="As in http://host:8000/v1.", rich_help_panel=SERVED),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variable with the key.", rich_help_panel=SERVED),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="T", help="The model's, to check its token ids.", rich_help_panel=SERVED
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(metavar="N", help="Prompts in flight (16).", rich_help_panel=SERVED),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds for an answer (600).", rich_help_panel=SERVED),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(metavar="N", help="Further tries a prompt (5).", rich_help_panel=SERVED),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="B", help="Rows of a pass (64).")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32 (without it), bfloat16 or float16.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Let the target answer prompts: the best calibration data there is.

    One JSONL line an answer, written at once; run the same command again to
    continue after an interruption, or to ask again for what a server did not
    answer (exit code 4). Draws depend on seed, prompt id and position alone.

    Examples: vocabtrim generate prompts.jsonl --model demo -o answers.jsonl

    vocabtrim generate prompts.jsonl --base-url http://localhost:8000/v1 --model NAME
    --tokenizer DIR -o answers.jsonl
    """
    console = Console(json, quiet, force or _tells_of_unfinished(json, output))
    local = {"batch_size": batch_size, "dtype": dtype, "drafter": drafter}
    served = {
        "api_key_env": api_key_env,
        "tokenizer": tokenizer,
        "concurrency": concurrency,
        "timeout": timeout,
        "retries": retries,
    }
    shared: dict[str, Any] = {"limit": limit, "samples": samples, "force": force}
    asked: dict[str, Any] = {
        "model": model,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "raw": raw,
    }
    run: Callable[[Advance], GenerateResult]
    if base_url is None:
        _refuse(served, "is for a server: give --base-url")
        run = _local(prompts, output, local, asked | shared)
    else:
        _refuse(local, "is for a model in this process, and --base-url names a server")
        run = _served(prompts, output, base_url, served, asked, shared)
    with console.progress("generating", "answers") as advance:
        result = run(advance)
    _show(result, console)


def _local(
    prompts: list[Path], output: Path, local: dict[str, Any], options: dict[str, Any]
) -> Callable[[Advance], GenerateResult]:
    from vocabtrim.pipeline.generate import generate as run
    from vocabtrim.tensors.locate import locate

    target, drafter = locate(options["model"]), local["drafter"]
    given = {name: value for name, value in local.items() if value is not None}
    if drafter is not None:
        given["drafter"] = locate(drafter)
        options = options | {"model": drafter}
    return lambda advance: run(prompts, target, output, progress=advance, **given, **options)


def _served(
    prompts: list[Path],
    output: Path,
    base_url: str,
    served: dict[str, Any],
    asked: dict[str, Any],
    shared: dict[str, Any],
) -> Callable[[Advance], GenerateResult]:
    from vocabtrim.engines.openai.asking import Patience, Server
    from vocabtrim.engines.openai.exchange import Endpoint
    from vocabtrim.engines.openai.wire import Asking
    from vocabtrim.pipeline.generate_served import generate_served
    from vocabtrim.tensors.locate import locate

    patience = {
        "concurrency": served["concurrency"],
        "timeout_s": served["timeout"],
        "retries": served["retries"],
    }
    given = {name: value for name, value in patience.items() if value is not None}
    endpoint = Endpoint.parse(base_url, _key(served["api_key_env"]))
    server = Server(endpoint, Asking(**asked), Patience(**given))
    name = served["tokenizer"]
    # a tokenizer.json may be given by itself; `locate` finds models
    tokenizer = None if name is None else Path(name) if name.endswith(".json") else locate(name)
    return lambda advance: generate_served(
        prompts, server, output, tokenizer=tokenizer, progress=advance, **shared
    )


def _tells_of_unfinished(json: Path | None, output: Path) -> bool:
    """Whether a result is of the run that this one goes on with, and so may be replaced."""
    try:
        told = load_json(json.read_bytes())["generate"] if json is not None else {}
        return bool(told["failures"]) and told["output"] == str(output)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise GenerateUsageError(f"--api-key-env names {variable}, which is not set")
    return os.environ[variable]


def _refuse(options: dict[str, Any], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise GenerateUsageError(f"--{name.replace('_', '-')} {why}")


def _show(result: GenerateResult, console: Console) -> None:
    for warning in result.warnings:
        console.warn(warning)
    continued = f" ({result.continued:,} from an earlier run)" if result.continued else ""
    where = f"{result.output}.part" if result.failures else result.output
    console.data(f"answers  {result.completions:,}{continued}  →  {where}")
    rate = "" if result.tokens_per_second is None else f", {result.tokens_per_second:.0f} a second"
    unknown = f"; of {result.without_ids:,} answers unknown" if result.without_ids else ""
    console.data(
        f"tokens   {result.new_tokens:,} new{rate}{unknown}; {result.stopped:,} answers ended"
    )
    console.result(result.to_json())
    if result.failures:
        for line in _failures(result.failures):
            console.warn(line)
        total = result.completions + len(result.failures)
        raise Unfinished(
            f"{len(result.failures):,} of {total:,} answers are missing; what there is stays in "
            f"{where}: run the same command again to ask for the rest"
        )


def _failures(failures: tuple[Failure, ...]) -> list[str]:
    """Return one line a reason, with the ids that it concerns."""
    reasons: dict[str, list[str]] = {}
    for failure in failures:
        reasons.setdefault(failure.reason, []).append(failure.key)
    lines = []
    for reason, keys in reasons.items():
        more = f" and {len(keys) - LISTED:,} more" if len(keys) > LISTED else ""
        lines.append(f"{len(keys):,} not answered, {reason}: {', '.join(keys[:LISTED])}{more}")
    return lines
