"""What `fit` is asked for, and the names of what it leaves.

A fit is known by its options (`place.py` has what follows from that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.engines.base import GAMMA

COUNTS, VOCAB, REPORT = "counts.safetensors", "vocab.safetensors", "fit.json"
TRIMMED, TRIMMED_FILE = "trimmed", "trimmed.gguf"
EXPORT, EXPORT_FILE = "for-{}", "for-{}.gguf"
"""Of an engine by its name."""


@dataclass(frozen=True)
class Fit:
    """What is asked for.

    Args:
        drafter: A directory, a GGUF file, a built-in or hub name.
        target: The same of the target.
        traffic: Files, directories, patterns, URLs, as for `count`; what lies in
            `output` is left out.
        engine: Name of the engine.
        output: The directory to make.
        gamma: Draft length that K is chosen for, where no trace chooses both.
        top_k: K, where it is not to be chosen; rounded up to a multiple of 64.
        traces: What `trace` wrote for this pair.
        latency: What `bench --micro`, or a bench on the engine, wrote.
        tokenizer: Where the target's tokenizer is, if not beside it.
        family: Which family is meant, where a directory is of several.
        role: Whose turns of a conversation count.
        cap_per_document: An id counts at most so often in one document.
        unproven: Write also what no test has loaded into the engine.
        converter: For llama.cpp, the command that runs its converter.
    """

    drafter: str
    target: str
    traffic: Sequence[str]
    engine: str
    output: Path
    gamma: int = GAMMA
    top_k: int | None = None
    traces: Sequence[Path] = ()
    latency: Path | None = None
    tokenizer: str | None = None
    family: str | None = None
    role: str = "assistant"
    cap_per_document: int | None = None
    unproven: bool = False
    converter: str | None = None

    @property
    def holds_out(self) -> bool:
        """Whether K may be chosen on documents that are read a second time."""
        return self.top_k is None and not self.traces

    @property
    def gammas(self) -> tuple[int, ...]:
        """Draft lengths that a plan chooses from; empty: all that the traces have."""
        return () if self.traces else (self.gamma,)

    def options(self) -> dict[str, Any]:
        """Return what decides the result, as a document."""
        return {
            "drafter": self.drafter,
            "target": self.target,
            "traffic": list(self.traffic),
            "engine": self.engine,
            "gamma": self.gamma,
            "top_k": self.top_k,
            "traces": [str(path) for path in self.traces],
            "latency": None if self.latency is None else str(self.latency),
            "tokenizer": self.tokenizer,
            "family": self.family,
            "role": self.role,
            "cap_per_document": self.cap_per_document,
        }
