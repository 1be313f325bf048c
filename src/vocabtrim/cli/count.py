"""`vocabtrim count`: calibration data to a count file.

Reads what was typed, calls `pipeline.count`, prints the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import Debug, Force, Json, Output, Quiet
from vocabtrim.core.errors import VocabtrimError


class CountUsageError(VocabtrimError):
    """The options of `count` contradict each other or do not parse."""


def count(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA…", help="Files, directories or globs; text or JSONL."),
    ],
    output: Output,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="T",
            help="Tokenizer: a model directory, a tokenizer.json, a hub name, or 'demo'.",
        ),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=GLOB", help="Count matching files as a domain too; repeatable."),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE", help="Whose turns of a chat count: assistant, user, system or all."
        ),
    ] = "assistant",
    cap_per_document: Annotated[
        int | None,
        typer.Option(metavar="N", help="Count an id at most N times a document (loops repeat)."),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="DATA are count files: add them.")] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Count how often each token id occurs in calibration data.

    Reads plain text, and JSONL with `text`, `prompt`, `messages` or the
    `completion_ids` that `generate` writes. Of a chat only what the assistant
    emits is counted, by the tokenizer's own template.

    Example: vocabtrim count answers.jsonl --tokenizer demo -o counts.safetensors
    """
    from vocabtrim.pipeline.count import count as run
    from vocabtrim.pipeline.count import merge as run_merge

    console = Console(json, quiet, force)
    if merge:
        if tokenizer or domain or cap_per_document:
            raise CountUsageError("--merge adds count files; it takes no options of counting")
        result = run_merge([Path(path) for path in data], output, force=force)
    else:
        with console.progress("counting", "bytes") as advance:
            result = run(
                data,
                _tokenizer(tokenizer),
                output,
                domains=_domains(domain or []),
                role=role,
                cap_per_document=cap_per_document,
                force=force,
                progress=advance,
            )
    for warning in result.warnings:
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())


def _tokenizer(name: str | None) -> Path:
    from vocabtrim.tensors.locate import locate

    if name is None:
        raise CountUsageError("say whose ids to count: --tokenizer T")
    path = Path(name)
    return path if path.is_file() and path.suffix == ".json" else locate(name)


def _domains(pairs: list[str]) -> dict[str, str]:
    domains = {}
    for pair in pairs:
        name, _, pattern = pair.partition("=")
        if not (name and pattern):
            raise CountUsageError(f"--domain takes NAME=GLOB, found {pair!r}")
        domains[name] = pattern
    return domains
