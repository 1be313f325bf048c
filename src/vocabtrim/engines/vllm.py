"""vLLM: EAGLE-3 drafters with a head of their own, flat or in speculators' layout.

The head is built with `draft_vocab_size` rows and must be stored so; ids are
position plus `d2t` (`model_executor/models/llama_eagle3.py`). A `d2t` beside a
full vocabulary is refused, a missing one is taken for zeros. Feature layers are
`eagle_aux_hidden_state_layer_ids` at the top level, else the list inside
`eagle_config`, and either is read as indices of `hidden_states`
(`v1/worker/gpu_model_runner.py`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import Cell, Container, Level, ReadBack, head_rows, offset_ids
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import FEATURE_KEY, NESTED_CONFIG, Counting
from vocabtrim.tensors.head_source import D2T, HEAD_WEIGHT

DRAFT_TOKENS = 3


@dataclass(frozen=True)
class Vllm:
    """vLLM."""

    name: str = "vllm"
    summary: str = "vLLM: EAGLE-3 with a reduced head, from a directory"
    version: str = "0.32.0"
    counting: Counting = Counting.INPUTS
    cells: tuple[Cell, ...] = (
        Cell("eagle3", Container.FLAT, Level.SERVED),
        Cell("eagle3", Container.SPECULATORS, Level.SERVED),
    )

    def config(
        self, config: Mapping[str, Any], container: Container, *, owns_head: bool
    ) -> dict[str, Any]:
        """Return the config as it is: what vLLM needs, every drafter states."""
        return dict(config)

    def read_back(self, output: Path, container: Container) -> ReadBack:
        """Read an exported directory by vLLM's rules.

        Raises:
            CheckpointError: vLLM would refuse it.
        """
        drafter = Checkpoint.open(output)
        V = drafter.integer("vocab_size")
        stated = drafter.config.get("draft_vocab_size") or V
        d2t = drafter.array(D2T) if D2T in drafter.tensors else None
        if d2t is not None and stated == V:
            raise CheckpointError(
                f"vLLM refuses a {D2T} beside a head of all {V} rows", path=output
            )
        head = drafter.tensors.get(HEAD_WEIGHT)
        ids = offset_ids(d2t)
        shape = None if head is None else head.shape
        rows = head_rows(shape, stated, None if ids is None else ids.size, output)
        return ReadBack(ids, None if head is None else rows, _layers(drafter.config))

    def command(self, output: Path, target: str, cell: Cell) -> str:
        """Return the command that serves it."""
        draft = {
            "method": "eagle3",
            "model": str(output),
            "num_speculative_tokens": DRAFT_TOKENS,
            # skips a row of V logits for each draft step
            "use_local_argmax_reduction": True,
        }
        return shlex.join(["vllm", "serve", target, "--speculative-config", json.dumps(draft)])


def _layers(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    nested = config.get(NESTED_CONFIG)
    inside = nested.get(FEATURE_KEY) if isinstance(nested, dict) else None
    stated = config.get(FEATURE_KEY) or inside
    return tuple(stated) if stated else None


PLUGIN = Vllm()
