"""What an export is asked for, and what it came to.

Both are the same whether a list of ids or a drafter for an engine is written; what
one of them has no use for is None.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocabtrim.engines.base import GAMMA


@dataclass(frozen=True)
class Request:
    """What is to be exported, and how.

    Args:
        source: A draft vocabulary's file, or a drafter as any verb takes it.
        output: The file or directory to make.
        target: The target, as any verb takes it.
        unproven: Write also what no test has loaded into the engine.
        converter: The command that runs llama.cpp's converter.
        force: Replace what exists.
        gamma: Draft length of the command that serves it.
        family: Which family is meant, where the drafter is of several.
    """

    source: str
    output: Path
    target: str | None = None
    unproven: bool = False
    converter: str | None = None
    force: bool = False
    gamma: int = GAMMA
    family: str | None = None


@dataclass(frozen=True)
class ExportResult:
    """What an export came to.

    Args:
        form: What it was exported to.
        outputs: The files, or the directory, written.
        K: Ids that can be drafted.
        V: Ids of the tokenizer.
        tokenizer: Its fingerprint, where known.
        level: How far it is proven that the engine drafts with it.
        command: What serves it.
        warnings: What a reader should know.
    """

    form: str
    outputs: tuple[str, ...]
    K: int
    V: int
    tokenizer: str | None
    level: str | None = None
    command: str | None = None
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        level = "" if self.level is None else f"  ({self.level})"
        written = [
            f"{self.form + ' ':<10}{self.K:,} of {self.V:,} ids  →  {output}{level}"
            for output in self.outputs
        ]
        return written if self.command is None else [*written, self.command]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        lists = {"outputs": list(self.outputs), "warnings": list(self.warnings)}
        return {"export": asdict(self) | lists}
