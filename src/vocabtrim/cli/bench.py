"""`vocabtrim bench`: a pair on llama.cpp or vLLM, started, measured and ended.

Parts our options from the engine's at `--`, calls `pipeline.bench`, prints tables
and verdicts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from vocabtrim.cli.console import Console
from vocabtrim.cli.numbers import numbers
from vocabtrim.cli.options import PROMPTS_HELP, Debug, Force, Json, Quiet
from vocabtrim.core.errors import VocabtrimError

if TYPE_CHECKING:
    from vocabtrim.pipeline.benching.result import BenchResult

SERVED = "A server that is up already"
WAITING = "How it is served"
MICRO = "Parts of a cycle, for plan"
ENGINE_ARGUMENTS = "vocabtrim.bench.engine_arguments"
"""Under what the arguments for the engine are kept on their way to `bench`."""


class BenchUsageError(VocabtrimError):
    """The options of `bench` contradict each other or do not parse."""


class EngineCommand(TyperCommand):
    """A command that takes what stands behind `--` for somebody else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Part the arguments at the first `--`."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[ENGINE_ARGUMENTS] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])


def bench(
    context: typer.Context,
    prompts: Annotated[
        list[Path] | None, typer.Argument(metavar="PROMPTS…", help=PROMPTS_HELP)
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", "-e", metavar="E", help="llama.cpp or vllm.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="T",
            help="For llama.cpp a GGUF file, 'demo' or 'demo-f32'; for vLLM a directory, a hub "
            "name or 'demo'. With --base-url: its name there.",
        ),
    ] = None,
    drafter: Annotated[
        list[str] | None,
        typer.Option(
            "--drafter",
            "-d",
            metavar="D",
            help="The full drafter, then trimmed ones, as files the engine takes; repeatable.",
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which family is meant, where D is of several."),
    ] = None,
    gamma: Annotated[
        str | None,
        typer.Option(
            metavar="N,N…", help="Draft lengths; 1,2,3 by default, with --micro 1,2,3,4,6,8."
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Also measure with N requests in flight; a verdict there takes --repeat 6.",
        ),
    ] = 1,
    repeat: Annotated[
        int | None,
        typer.Option(metavar="R", help="Times to measure; 3 by default, with --micro 7."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens an answer.")] = 128,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use only the first N prompts.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
    server_bin: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="llama-server or vllm, where not on the PATH.",
            rich_help_panel=WAITING,
        ),
    ] = None,
    one_at_a_time: Annotated[
        bool,
        typer.Option(
            "--one-at-a-time", help="Never two servers up at once.", rich_help_panel=WAITING
        ),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="P", help="First port; any that is free without it.", rich_help_panel=WAITING
        ),
    ] = None,
    start_timeout: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds for a server to start.", rich_help_panel=WAITING),
    ] = 600.0,
    timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds for an answer.", rich_help_panel=WAITING)
    ] = 600.0,
    micro: Annotated[
        bool,
        typer.Option(
            "--micro",
            help="Time draft steps and target passes in our own decoder, for `plan`.",
            rich_help_panel=MICRO,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Latencies.", rich_help_panel=MICRO),
    ] = None,
    batch: Annotated[
        str,
        typer.Option(metavar="N,N…", help="Texts side by side.", rich_help_panel=MICRO),
    ] = "1,4",
    top_k: Annotated[
        str | None,
        typer.Option("--top-k", metavar="K,K…", help="Sizes to time.", rich_help_panel=MICRO),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16.", rich_help_panel=MICRO)
    ] = "float32",
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="As in http://host:8000/v1.", rich_help_panel=SERVED),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variable with the key.", rich_help_panel=SERVED),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Measure a trimmed drafter on llama.cpp or vLLM, and say whether it pays.

    With --micro, time what the parts of a cycle take in our own decoder, for
    `plan`: vocabtrim bench --micro -t demo -d demo-eagle3 -o latency.json

    Serves the target alone (twice, for the noise), with the full drafter and with
    trimmed ones; arms take turns. What stands behind -- goes to the engine. Ends
    every process that it started.

    Example: vocabtrim bench prompts.jsonl --engine llama.cpp --target demo
    --drafter full.gguf --drafter trimmed.gguf --gamma 1,2,3 -- -t 2
    """
    from vocabtrim.engines.serving.base import serving_named
    from vocabtrim.engines.serving.launch import Limits
    from vocabtrim.pipeline.bench import Plan, bench_served
    from vocabtrim.pipeline.bench import bench as run
    from vocabtrim.tokens.prompts import read_prompts

    console = Console(json, quiet, force)
    arguments: list[str] = context.meta[ENGINE_ARGUMENTS]
    if micro:
        if prompts or engine or base_url or arguments or family:
            raise BenchUsageError("--micro takes no prompts, engine or server, and no --family")
        options = (gamma, batch, top_k, dtype, 7 if repeat is None else repeat)
        _micro(console, target, drafter or [], output, options)
        return
    if output is not None or not prompts:
        raise BenchUsageError("a bench needs PROMPTS…; -o is for --micro, a bench has --json")
    plan = Plan(
        max_new_tokens=max_new_tokens,
        repeat=3 if repeat is None else repeat,
        concurrency=concurrency,
        raw=raw,
        one_at_a_time=one_at_a_time,
        limits=Limits(start_s=start_timeout, answer_s=timeout, port=port),
    )
    known = None if engine is None else serving_named(engine)
    chosen = read_prompts(prompts)[:limit]
    if base_url is None:
        if known is None or target is None:
            raise BenchUsageError("give --engine and --target, or --base-url of a running server")
        if api_key_env is not None:
            raise BenchUsageError("--api-key-env is for --base-url; our own servers have no key")
        with console.progress("measuring", "answers") as advance:
            result = run(
                chosen,
                known,
                target,
                drafter or [],
                gammas=_gammas(gamma or "1,2,3"),
                plan=plan,
                family=family,
                server_bin=server_bin,
                arguments=arguments,
                progress=advance,
            )
    else:
        if drafter or family or server_bin or arguments or one_at_a_time or port:
            raise BenchUsageError(
                "--base-url names a server that is up already, so drafters, --family, "
                "--server-bin, --one-at-a-time, --port and arguments behind -- have no place"
            )
        from vocabtrim.engines.openai.exchange import Endpoint

        endpoint = Endpoint.parse(base_url, _key(api_key_env))
        with console.progress("measuring", "answers") as advance:
            result = bench_served(
                chosen, endpoint, plan=plan, engine=known, model=target, progress=advance
            )
    _show(console, result)


def _show(console: Console, result: BenchResult) -> None:
    for warning in result.warnings:
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())


def _micro(
    console: Console,
    target: str | None,
    drafters: list[str],
    output: Path | None,
    options: tuple[str | None, str, str | None, str, int],
) -> None:
    """Time a pair in our own decoder."""
    from vocabtrim.pipeline.bench_micro import GAMMAS, bench_micro
    from vocabtrim.tensors.locate import locate

    gamma, batch, top_k, dtype, rounds = options
    if target is None or len(drafters) != 1 or output is None:
        raise BenchUsageError("--micro needs --target, one --drafter and --output")
    with console.progress("timing", "rounds") as advance:
        result = bench_micro(
            locate(target),
            locate(drafters[0]),
            output,
            target_name=target,
            drafter_name=drafters[0],
            sizes=numbers(top_k, "--top-k") if top_k is not None else [],
            gammas=numbers(gamma, "--gamma") if gamma is not None else GAMMAS,
            batches=numbers(batch, "--batch"),
            rounds=rounds,
            dtype=dtype,
            force=console.force,
            progress=advance,
        )
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())


def _gammas(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as fault:
        raise BenchUsageError(f"--gamma takes numbers with commas, found {text!r}") from fault


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise BenchUsageError(f"--api-key-env names {variable}, which is not set")
    return os.environ[variable]
