"""llama.cpp: drafters as GGUF files.

A directory becomes one through llama.cpp's own converter, and only through it:
how weights are permuted and named is its business and changes with its version.
A drafter that is a GGUF file already is trimmed as such and goes over as it is.
The map holds absolute ids as I64; the head has as many rows, or stands in the
target (`src/models/eagle3.cpp`). EAGLE-3 is fed exactly three layers, stated as
inputs. Which architectures draft with a reduced head is `tensors/gguf_drafter.py`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import GAMMA, Cell, Container, Level, ReadBack
from vocabtrim.tensors.eagle3_layout import Counting
from vocabtrim.tensors.gguf_drafter import OUTPUT
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.head_source import D2T

FEATURES = 3
PATCH = "needs llama.cpp's open pull request 29143: the stock loader asks for V rows"


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp."""

    name: str = "llama.cpp"
    summary: str = "llama.cpp: EAGLE-3 with a reduced head, as GGUF"
    version: str = "11434"
    counting: Counting = Counting.INPUTS
    cells: tuple[Cell, ...] = (
        Cell("eagle3", Container.GGUF, Level.SERVED),
        Cell("dflash", Container.GGUF, Level.LOADED),
        Cell("mtp", Container.GGUF, Level.BY_READING, PATCH),
    )

    def config(
        self, config: Mapping[str, Any], container: Container, *, owns_head: bool
    ) -> dict[str, Any]:
        """Return the config as the converter takes a drafter for EAGLE-3: with its K."""
        return {**config, "draft_vocab_size": config.get("draft_vocab_size") or _vocab(config)}

    def read_back(self, output: Path, container: Container) -> ReadBack:
        """Read an exported file by llama.cpp's rules.

        Raises:
            CheckpointError: llama.cpp would refuse it.
        """
        model = open_gguf(output)
        head, d2t = model.tensors.get(OUTPUT), model.tensors.get(D2T)
        if d2t is not None and (
            d2t.dtype != "I64" or head is None or head.shape[0] != d2t.shape[0]
        ):
            raise CheckpointError(
                f"llama.cpp takes a {D2T} of I64 with a row of {OUTPUT} for each entry", path=output
            )
        ids = None if d2t is None else model.weights.array(D2T).astype("int64")
        layers = None
        if model.architecture == "eagle3":
            layers = tuple(int(one) for one in model.header.numbers("eagle3.target_layers"))
            if len(layers) != FEATURES:
                raise CheckpointError(
                    f"llama.cpp feeds EAGLE-3 {FEATURES} layers, found {list(layers)}", path=output
                )
        return ReadBack(ids, None if head is None else head.shape[0], layers)

    def command(self, output: Path, target: str, cell: Cell, *, gamma: int = GAMMA) -> str:
        """Return the command that serves it; the target is a GGUF file too."""
        words = ["llama-server", "-m", target, "-md", str(output)]
        kind = {"eagle3": "draft-eagle3", "dflash": "draft-dflash", "mtp": "draft-mtp"}
        words += ["--spec-type", kind[cell.family], "--spec-draft-n-max", str(gamma)]
        return shlex.join(words)


def _vocab(config: Mapping[str, Any]) -> Any:
    return config.get("vocab_size")


PLUGIN = LlamaCpp()
