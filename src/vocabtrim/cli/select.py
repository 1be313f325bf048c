"""`vocabtrim select`: counts to a draft vocabulary.

Turns the short options into a rule, calls `pipeline.select`, prints the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import Debug, Force, Json, Output, Quiet
from vocabtrim.core.errors import VocabtrimError

if TYPE_CHECKING:
    from vocabtrim.rules.base import SelectionRule

HOW = "How to choose (one of these)"


class SelectionUsageError(VocabtrimError):
    """The options of `select` contradict each other or do not parse."""


def select(
    counts: Annotated[list[Path], typer.Argument(metavar="COUNTS…", help="Count files; added.")],
    output: Output,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", metavar="N", help="The N most frequent ids.", rich_help_panel=HOW),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p", metavar="P", help="The fewest ids covering P.", rich_help_panel=HOW
        ),
    ] = None,
    min_count: Annotated[
        int | None,
        typer.Option(
            "--min-count", metavar="N", help="Ids seen N times or more.", rich_help_panel=HOW
        ),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(
            "--first", metavar="N", help="The ids below N, uncounted.", rich_help_panel=HOW
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            metavar="NAME:opt=…",
            help="Any rule of `vocabtrim rules`.",
            rich_help_panel=HOW,
        ),
    ] = None,
    exact_k: Annotated[
        bool, typer.Option("--exact-k", help="Do not round K up to a multiple of 64.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option(metavar="COUNTS", help="Counts of broader text, to fill unseen rows from."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(metavar="DOMAIN=W", help="Let a domain's tokens count W times; repeatable."),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="none|ID,…",
            help="Further ids to keep; 'none' drops the automatic ones (EOS, chat, added tokens).",
        ),
    ] = "",
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Choose the draft vocabulary from counts.

    EOS ids, the ids that the chat template emits in an assistant turn and added
    tokens seen in calibration are always inside K, unless --keep none.

    Example: vocabtrim select counts.safetensors --top-k 4096 -o vocab.safetensors
    """
    from vocabtrim.pipeline.select import KeepIds
    from vocabtrim.pipeline.select import select as run

    console = Console(json, quiet, force)
    simple = {"top_k:k": top_k, "top_p:p": top_p, "min_count:count": min_count, "first:k": first}
    result = run(
        counts,
        _rule(simple, rule, exact=exact_k),
        output,
        base=base,
        weights=_weights(weight or []),
        keep=KeepIds.parse(keep),
        force=force,
    )
    console.data(f"draft vocabulary  {result.K:,} of {result.V:,} ids  →  {result.output}")
    console.data(f"rule              {result.rule}")
    console.data(
        f"ids               {result.seen:,} seen in calibration, {result.kept:,} kept whatever "
        f"their count; {result.dropped_seen:,} seen ids dropped"
    )
    console.data(
        f"fill              {result.filled_share:.1%} of rows: {result.filled_from_base:,} from "
        f"base counts, {result.filled_ascending:,} in ascending id"
    )
    console.data(f"coverage          {result.coverage:.2%} of the calibration tokens themselves")
    for name, share in result.coverage_by_domain.items():
        console.data(f"  {name:<16}{share:.2%}")
    console.result(result.to_json())


def _rule(simple: dict[str, int | float | None], rule: str | None, *, exact: bool) -> SelectionRule:
    from vocabtrim.rules.base import parse_rule

    asked = [f"{name}={value!r}" for name, value in simple.items() if value is not None]
    if len(asked) + (rule is not None) != 1:
        raise SelectionUsageError(
            "say how to choose, with exactly one of "
            "--top-k, --top-p, --min-count, --first and --rule"
        )
    if rule is not None:
        if exact:
            raise SelectionUsageError("with --rule, write exact=true among the rule's options")
        return parse_rule(rule)
    return parse_rule(asked[0] + (",exact=true" if exact else ""))


def _weights(pairs: list[str]) -> dict[str, float]:
    weights = {}
    for pair in pairs:
        domain, equals, number = pair.rpartition("=")
        try:
            weights[domain] = float(number)
        except ValueError:
            equals = ""
        if not (domain and equals):
            raise SelectionUsageError(f"--weight takes DOMAIN=NUMBER, found {pair!r}")
    return weights
