"""Options that several verbs share, each described once.

One name and one help text for one thing, whatever the verb.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the result as JSON ('-': to stdout)."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="What to write.")]
TARGET_HELP = "Target: a model directory, a GGUF file, a hub name, 'demo' or 'demo-gemma'."
TOKENIZER_HELP = "Tokenizer: a model directory, a tokenizer.json, a hub name, or 'demo'."
DRAFTER_HELP = "Drafter: a directory, a hub name, 'demo-eagle3' or 'demo-lm'."
PROMPTS_HELP = "JSONL with `prompt` or `messages`, or text, one prompt a line."
