"""`vocabtrim select`: counts, or somebody's list of ids, to a draft vocabulary.

Turns the short options into a rule and calls `pipeline.select`, or for `--ids`
`pipeline.adopt`; prints the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.numbers import weights
from vocabtrim.cli.options import TOKENIZER_HELP, Debug, Force, Json, Output, Quiet
from vocabtrim.core.errors import VocabtrimError

if TYPE_CHECKING:
    from vocabtrim.pipeline.select import SelectResult
    from vocabtrim.rules.base import SelectionRule
    from vocabtrim.tensors.id_vectors import Reading

HOW = "How to choose (one of these)"
LIST = "Instead of choosing"
WORTH = "To see what it is worth"

HOLD_OUT = (
    "hint: coverage of new text is an estimate from the counts; to measure it, leave some files "
    "out of the counts and name them here: --held-out FILE --tokenizer T"
)
NO_TEXT = "hint: --tokenizer T shows dropped ids as text"


class SelectionUsageError(VocabtrimError):
    """The options of `select` contradict each other or do not parse."""


def select(
    output: Output,
    counts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="COUNTS…", help="Count files; added. With --ids they only judge."),
    ] = None,
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
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="TRACE", help="What `trace` wrote, for --rule acceptance.", rich_help_panel=HOW
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
    ids: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take a list as it is: JSON, text, .npy, .pt, raw int32, a d2t, a drafter.",
            rich_help_panel=LIST,
        ),
    ] = None,
    read_as: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="ids|offsets",
            help="What the list holds, where that does not show.",
            rich_help_panel=LIST,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="T",
            help=f"{TOKENIZER_HELP} Shows dropped ids as text.",
            rich_help_panel=WORTH,
        ),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Text that was not counted, to measure coverage on; repeatable.",
            rich_help_panel=WORTH,
        ),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Choose the draft vocabulary from counts, and say what it is worth.

    EOS ids, the ids that the chat template emits in an assistant turn and added
    tokens seen in calibration are always inside K, unless --keep none. A list
    (--ids) is taken as it is.

    Example: vocabtrim select counts.safetensors --top-k 4096 -o vocab.safetensors
    """
    from vocabtrim.pipeline.adopt import adopt
    from vocabtrim.pipeline.select import KeepIds
    from vocabtrim.pipeline.select import select as run

    console = Console(json, quiet, force)
    simple = {"top_k:k": top_k, "top_p:p": top_p, "min_count:count": min_count, "first:k": first}
    if ids is not None:
        asked = [*simple.values(), rule, trace, base, weight or None, keep or None]
        asked.append(exact_k or None)
        if any(option is not None for option in asked):
            raise SelectionUsageError("--ids takes a list as it is, without options of choosing")
        result = adopt(
            ids,
            output,
            tokenizer=_tokenizer(tokenizer),
            reading=_reading(read_as),
            counts=counts or [],
            held_out=held_out or [],
            force=force,
        )
    else:
        if read_as is not None:
            raise SelectionUsageError("--as says what the file of --ids holds, and there is none")
        if not counts:
            raise SelectionUsageError("say what to choose from: COUNTS…, or --ids FILE")
        result = run(
            counts,
            _rule(simple, rule, exact=exact_k),
            output,
            base=base,
            weights=weights(weight or []),
            keep=KeepIds.parse(keep),
            trace=trace,
            tokenizer=_tokenizer(tokenizer),
            held_out=held_out or [],
            force=force,
        )
    _show(console, result, with_text=tokenizer is not None)


def _show(console: Console, result: SelectResult, *, with_text: bool) -> None:
    for warning in result.warnings:
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    if result.counted is not None and result.counted.dropped and not with_text:
        console.talk(NO_TEXT)
    if result.counted is not None and result.held_out is None:
        console.talk(HOLD_OUT)
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


def _tokenizer(name: str | None) -> Path | None:
    from vocabtrim.tensors.locate import locate_tokenizer

    return None if name is None else locate_tokenizer(name)


def _reading(text: str | None) -> Reading | None:
    from vocabtrim.tensors.id_vectors import Reading

    known: tuple[Reading, ...] = get_args(Reading)
    for one in known:
        if one == text:
            return one
    if text is not None:
        raise SelectionUsageError(f"--as takes {' or '.join(known)}, found {text!r}")
    return None
