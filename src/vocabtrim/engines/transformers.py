"""transformers: independent drafters with a reduced head, for assisted generation.

Stock transformers has no word for a head of K rows beside V ids: it refuses the
class name that a trimmed drafter has, and the shape of its head. The directory is
therefore read by a module that stands in for the head and scatters K logits over
V; until that ships, all that is known of this cell is the source
(`generation/candidate_generator.py`: an assistant whose logits are V wide).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Cell, Container, Level, ReadBack, offset_ids
from vocabtrim.tensors.causal import causal_layout
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import Counting
from vocabtrim.tensors.head_source import D2T

HEAD = "a head that scatters K logits over V ids has to be put in first"


@dataclass(frozen=True)
class Transformers:
    """transformers."""

    name: str = "transformers"
    summary: str = "transformers: independent drafters as assistants, in one process"
    version: str = "5.23"
    counting: Counting = Counting.INPUTS
    cells: tuple[Cell, ...] = (Cell("independent", Container.FLAT, Level.BY_READING, HEAD),)

    def config(
        self, config: Mapping[str, Any], container: Container, *, owns_head: bool
    ) -> dict[str, Any]:
        """Return the config as it is."""
        return dict(config)

    def read_back(self, output: Path, container: Container) -> ReadBack:
        """Read an exported directory: a head of K rows and a `d2t`.

        Raises:
            CheckpointError: Head and map do not fit together.
        """
        drafter = Checkpoint.open(output)
        rows = causal_layout(drafter).head.shape[0]
        ids = offset_ids(drafter.array(D2T) if D2T in drafter.tensors else None)
        if ids is not None and ids.size != rows:
            raise CheckpointError(f"{ids.size} ids for a head of {rows} rows", path=output)
        return ReadBack(ids, rows, None)

    def command(self, output: Path, target: str, cell: Cell) -> str:
        """Return the measurement that decodes with it; there is no server."""
        words = ["vocabtrim", "eval", "PROMPTS.jsonl", "--target", target]
        return shlex.join([*words, "--drafter", str(output)])


PLUGIN = Transformers()
