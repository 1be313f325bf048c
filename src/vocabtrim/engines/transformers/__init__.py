"""transformers: its engine plug-in, and what drafts inside its `generate`.

`reduced_assistant` and `load_assistant` make an assistant that drafts over K rows;
`speculative_generate` is our decoder as `generate(custom_generate=…, drafter=…)`.
They bring torch along, so they are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from vocabtrim.engines.transformers.exporter import PLUGIN

__all__ = ["PLUGIN", "load_assistant", "reduced_assistant", "speculative_generate"]

_HOMES = {
    "load_assistant": "assistant",
    "reduced_assistant": "assistant",
    "speculative_generate": "generate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
