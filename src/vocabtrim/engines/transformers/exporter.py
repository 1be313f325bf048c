"""transformers: independent drafters as assistants, and EAGLE-3 behind `custom_generate`.

Stock transformers has no word for a head of K rows beside V ids: it refuses the
class name that a trimmed drafter has, and the shape of its head; EAGLE-3 it does not
know. So both are opened by us, in the process that generates: an independent drafter
by `load_assistant`, which puts K logits in their places among V (`assistant.py`), any
by `open_drafter`, for `generate(custom_generate=…)` (`generate.py`). The tests of
both are what *served* stands for here.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import GAMMA, Cell, Container, Level, ReadBack, offset_ids
from vocabtrim.tensors.causal import causal_layout
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import Counting, is_eagle3, stated_layers
from vocabtrim.tensors.head_source import D2T, HEAD_WEIGHT

ASSISTANT = "opened by load_assistant, for generate(assistant_model=…)"
CUSTOM = "opened by open_drafter, for generate(custom_generate=…)"


@dataclass(frozen=True)
class Transformers:
    """transformers."""

    name: str = "transformers"
    summary: str = (
        "transformers: assistants over K rows, EAGLE-3 by custom_generate, in one process"
    )
    version: str = "5.23"
    counting: Counting = Counting.INPUTS
    cells: tuple[Cell, ...] = (
        Cell("independent", Container.FLAT, Level.SERVED, ASSISTANT),
        Cell("eagle3", Container.FLAT, Level.SERVED, CUSTOM),
    )

    def config(
        self, config: Mapping[str, Any], container: Container, *, owns_head: bool
    ) -> dict[str, Any]:
        """Return the config as it is."""
        return dict(config)

    def read_back(self, output: Path, container: Container) -> ReadBack:
        """Read an exported directory: a head of K rows, or the target's, and a `d2t`.

        Raises:
            CheckpointError: Head and map do not fit together.
        """
        drafter = Checkpoint.open(output)
        eagle3 = is_eagle3(drafter)
        head = drafter.tensors.get(HEAD_WEIGHT) if eagle3 else causal_layout(drafter).head
        rows = None if head is None else head.shape[0]
        ids = offset_ids(drafter.array(D2T) if D2T in drafter.tensors else None)
        if ids is not None and ids.size != rows:
            raise CheckpointError(f"{ids.size} ids for a head of {rows or 'no'} rows", path=output)
        return ReadBack(ids, rows, stated_layers(drafter.config) if eagle3 else None)

    def command(self, output: Path, target: str, cell: Cell, *, gamma: int = GAMMA) -> str:
        """Return the measurement that decodes with it; there is no server."""
        words = ["vocabtrim", "eval", "PROMPTS.jsonl", "--target", target]
        return shlex.join([*words, "--drafter", str(output), "--gamma", str(gamma)])


PLUGIN = Transformers()
