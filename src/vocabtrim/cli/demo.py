"""`vocabtrim demo`: the whole work on the demo pair.

Calls `pipeline.demo`, says what it does as it goes, prints the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocabtrim.cli.console import Console
from vocabtrim.cli.options import Debug, Force, Json, Quiet
from vocabtrim.core.errors import NotLossless


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where its files go.")
    ] = Path("vocabtrim-demo"),
    json: Json = None,
    quiet: Quiet = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Show the whole method on a real pair: count, select, trim, prove, measure.

    SmolLM2-135M-Instruct and two drafters, a few minutes on two cores. The
    report and all files are left in ./vocabtrim-demo, which a demo replaces.

    Example: vocabtrim demo
    """
    from vocabtrim.pipeline.demo import REPORT
    from vocabtrim.pipeline.demo import demo as run

    console = Console(json, quiet, force)
    result = run(output, say=console.data)
    console.data("")
    for line in result.evaluation.lines():
        console.data(line)
    console.data("")
    console.data(
        "The head is the larger part of these small drafters; at 8B with 128K ids it is about "
        "60% of a draft step."
    )
    seconds = ", ".join(f"{name} {spent:.0f}" for name, spent in result.seconds.items())
    console.data(f"seconds: {seconds}")
    console.data(f"report:  {output / REPORT}")
    console.result(result.to_json())
    if result.evaluation.is_lossless is False:
        raise NotLossless(result.evaluation.difference())
