"""`vocabtrim count`: calibration data to a count file.

Reads what was typed, calls `pipeline.count` or `pipeline.merge`, prints the
result.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vocabtrim.cli.console import Advance, Console
from vocabtrim.cli.options import Debug, Force, Json, Output, Quiet
from vocabtrim.core.errors import VocabtrimError

if TYPE_CHECKING:
    from vocabtrim.pipeline.count_result import CountResult
    from vocabtrim.pipeline.counting.run import Progress


class CountUsageError(VocabtrimError):
    """The options of `count` contradict each other or do not parse."""


def count(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA…",
            help="Files, directories, globs, URLs, or - for standard input; also .gz and .zst. "
            "What is in them decides how they are read (`vocabtrim sources`).",
        ),
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
        typer.Option(
            metavar="NAME[=GLOB]",
            help="Count matching files as a domain too; without GLOB, the records whose field "
            "`domain` says NAME. Repeatable.",
        ),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE", help="Whose turns of a chat count: assistant, user, system or all."
        ),
    ] = "assistant",
    field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Read this field of each record, whatever else it has."),
    ] = None,
    cap_per_document: Annotated[
        int | None,
        typer.Option(metavar="N", help="Count an id at most N times a document (loops repeat)."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="A record that cannot be used is an error, not left out."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes; all cores by default.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Count on a Ray cluster: auto, local, or HOST:PORT."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What encodes: auto (the fastest that is exact), tokenizers, …"
        ),
    ] = "auto",
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, whatever an interrupted run left.")
    ] = False,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="DATA are count files: add them. With -t T also frequencies of other tools.",
        ),
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Count how often each token id occurs in calibration data.

    Of a chat only what the assistant emits is counted, by the tokenizer's own
    template. A record that cannot be used is left out and reported. An
    interrupted count is continued by the same command.

    Example: vocabtrim count answers.jsonl --tokenizer demo -o counts.safetensors
    """
    console = Console(json, quiet, force)
    if merge:
        if domain or cap_per_document or field or ray or workers:
            raise CountUsageError("--merge adds count files; it takes no options of counting")
        from vocabtrim.pipeline.merge import merge as run_merge

        whose = None if tokenizer is None else _tokenizer(tokenizer)
        merged = run_merge([Path(path) for path in data], output, tokenizer=whose, force=force)
        _show(console, merged)
        return
    from vocabtrim.pipeline.count import count as run

    if workers and ray:
        raise CountUsageError("--workers are processes of this machine; --ray uses none of them")
    path, patterns = _tokenizer(tokenizer), _domains(domain or [])
    with console.progress("counting", "bytes") as advance:
        result = run(
            data,
            path,
            output,
            domains=patterns,
            role=role,
            cap_per_document=cap_per_document,
            field=field,
            backend=backend,
            workers=workers,
            ray=ray,
            strict=strict,
            restart=restart,
            force=force,
            progress=told(advance),
            notice=console.talk,
        )
    _show(console, result)


def _show(console: Console, result: CountResult) -> None:
    for warning in result.warnings:
        console.warn(warning)
    for line in result.lines():
        console.data(line)
    console.result(result.to_json())


def told(advance: Advance) -> Callable[[Progress], None]:
    """Return what tells a bar, or lines, how far the count is."""

    def tell(progress: Progress) -> None:
        seconds = max(progress.seconds, 1e-9)
        advance(
            progress.read if progress.total is None else progress.done,
            progress.total or 0,
            f"{progress.read / 1e6 / seconds:.1f} MB/s, "
            f"{progress.tokens / 1e6 / seconds:.2f}M tokens/s, {progress.distinct:,} ids",
        )

    return tell


def _tokenizer(name: str | None) -> Path:
    from vocabtrim.tensors.locate import locate_tokenizer

    if name is None:
        raise CountUsageError("say whose ids to count: --tokenizer T")
    return locate_tokenizer(name)


def _domains(pairs: list[str]) -> dict[str, str]:
    """Return name to pattern; an empty pattern is of records that say it themselves."""
    domains = {}
    for pair in pairs:
        name, given, pattern = pair.partition("=")
        if not name or (given and not pattern):
            raise CountUsageError(f"--domain takes NAME=GLOB or NAME, found {pair!r}")
        domains[name] = pattern
    return domains
