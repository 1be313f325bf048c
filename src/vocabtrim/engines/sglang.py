"""SGLang: EAGLE-3 drafters, and the target's head sliced by a list of ids.

EAGLE-3: class `LlamaForCausalLMEagle3`; ids are position plus `d2t`; a
`draft_vocab_size` of null means the target's head (`models/llama_eagle3.py`).
Feature layers are read from `eagle_config` alone, where they count outputs
(`model_runner_components/spec_aux_hidden_state.py`, `models/llama.py`).

EAGLE-1, EAGLE-2 and native prediction layers own no head; SGLang takes the rows
of the target's by `--speculative-token-map`, a list of absolute ids as torch
saves one (`speculative/spec_utils.py`). That works with one GPU for the head
(TP = 1) and a head that is not quantised.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import GAMMA, Cell, Container, Level, ReadBack, head_rows, offset_ids
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import FEATURE_KEY, NESTED_CONFIG, Counting
from vocabtrim.tensors.head_source import D2T, HEAD_WEIGHT
from vocabtrim.tensors.torch_file import load_torch

ARCHITECTURE = "LlamaForCausalLMEagle3"
ID_LIST_FILE = "token_map.pt"
LIMITS = "TP = 1 and a target head that is not quantised"


@dataclass(frozen=True)
class Sglang:
    """SGLang."""

    name: str = "sglang"
    summary: str = "SGLang: EAGLE-3 from a directory; EAGLE-1/2 and MTP by a list of ids"
    version: str = "0.5.23"
    counting: Counting = Counting.BOTH
    cells: tuple[Cell, ...] = (
        Cell("eagle3", Container.FLAT, Level.LOADED),
        Cell("eagle", Container.ID_LIST, Level.LOADED, LIMITS),
        Cell("mtp", Container.ID_LIST, Level.LOADED, LIMITS),
    )

    def config(
        self, config: Mapping[str, Any], container: Container, *, owns_head: bool
    ) -> dict[str, Any]:
        """Return the config under a class that SGLang knows, saying whose the head is."""
        changed = {**config, "tie_word_embeddings": False}
        if container is Container.ID_LIST:
            return changed | {"architectures": [_eagle(name) for name in config["architectures"]]}
        changed["architectures"] = [ARCHITECTURE]
        if not owns_head:
            changed["draft_vocab_size"] = None
        return changed

    def read_back(self, output: Path, container: Container) -> ReadBack:
        """Read an exported directory by SGLang's rules.

        Raises:
            CheckpointError: SGLang would refuse it, or draft with an empty head.
        """
        if container is Container.ID_LIST:
            loaded = np.asarray(load_torch(output / ID_LIST_FILE), dtype=np.int64)
            return ReadBack(loaded, None, None)
        drafter = Checkpoint.open(output)
        if drafter.config.get("architectures") != [ARCHITECTURE]:
            raise CheckpointError(f"SGLang knows {ARCHITECTURE} only", path=output)
        if "draft_vocab_size" not in drafter.config:
            raise CheckpointError("SGLang asks for draft_vocab_size, null or not", path=output)
        stated, head = drafter.config["draft_vocab_size"], drafter.tensors.get(HEAD_WEIGHT)
        if (stated is None) != (head is None):
            raise CheckpointError(
                "SGLang takes the target's head where draft_vocab_size is null, and only there",
                path=output,
            )
        ids = offset_ids(drafter.array(D2T) if D2T in drafter.tensors else None)
        rows = None
        if stated is not None:
            shape = None if head is None else head.shape
            rows = head_rows(shape, stated, None if ids is None else ids.size, output)
        return ReadBack(ids, rows, _layers(drafter.config))

    def command(self, output: Path, target: str, cell: Cell, *, gamma: int = GAMMA) -> str:
        """Return the command that serves it."""
        words = ["python", "-m", "sglang.launch_server", "--model-path", target]
        words += ["--speculative-algorithm", _ALGORITHM[cell.family]]
        if cell.family != "mtp":
            words += ["--speculative-draft-model-path", str(output)]
        words += ["--speculative-num-steps", str(gamma), "--speculative-eagle-topk", "1"]
        words += ["--speculative-num-draft-tokens", str(gamma + 1)]
        if cell.container is Container.ID_LIST:
            words += ["--speculative-token-map", str(output / ID_LIST_FILE)]
        return shlex.join(words)


def _eagle(architecture: str) -> str:
    return architecture if architecture.endswith("Eagle") else f"{architecture}Eagle"


_ALGORITHM = {"eagle3": "EAGLE3", "eagle": "EAGLE", "mtp": "NEXTN"}


def _layers(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    nested = config.get(NESTED_CONFIG)
    stated = nested.get(FEATURE_KEY) if isinstance(nested, dict) else None
    return tuple(index + 1 for index in stated) if stated else None


PLUGIN = Sglang()
