"""`vocabtrim plan`: which K and γ, on the machine that was measured.

Reads what was typed, calls `pipeline.plan`, prints the surface and the verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.numbers import numbers, weights
from vocabtrim.cli.options import Debug, Force, Json, Quiet
from vocabtrim.core.errors import VocabtrimError


class PlanUsageError(VocabtrimError):
    """The options of `plan` contradict each other."""


def plan(
    counts: Annotated[
        Path, typer.Option(metavar="COUNTS", help="Counts from which K ids are chosen.")
    ],
    traces: Annotated[
        list[Path] | None,
        typer.Argument(metavar="TRACE…", help="What `trace` wrote; without it, a bound."),
    ] = None,
    latency: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What `bench --micro` wrote, or a bench on an engine (--json)."
        ),
    ] = None,
    params: Annotated[
        bool, typer.Option("--params", help="Count parameters instead of time, as MBSU does.")
    ] = False,
    top_k: Annotated[
        str | None,
        typer.Option("--top-k", metavar="K,K…", help="Sizes; powers of two without it."),
    ] = None,
    gamma: Annotated[
        str | None, typer.Option(metavar="N,N…|N-N", help="Draft lengths; the trace's without it.")
    ] = None,
    exact_k: Annotated[
        bool, typer.Option("--exact-k", help="Do not round K up to a multiple of 64.")
    ] = False,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOMAIN=W", help="Let a domain count W times, as in your traffic; repeatable."
        ),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Choose K and the draft length, or say that neither pays.

    Joins exact acceptance (a trace) with measured time: the fastest point, all
    points, larger batches, and what it costs if traffic drifts to one domain.
    "do not trim" and "do not speculate" are answers too.

    Example: vocabtrim plan trace.safetensors --counts counts.safetensors --latency latency.json
    """
    from vocabtrim.pipeline.plan import plan_pair as run

    if (latency is None) == (not params):
        raise PlanUsageError("say where time comes from, with one of --latency FILE and --params")
    console = Console(json, quiet, force)
    result = run(
        traces or [],
        counts,
        latency=latency,
        sizes=numbers(top_k, "--top-k") if top_k is not None else [],
        gammas=numbers(gamma, "--gamma") if gamma is not None else [],
        exact=exact_k,
        weights=weights(weight or []),
    )
    for warning in result.warnings:
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())
