"""vLLM: its engine plug-in, and the plug-in that vLLM loads.

`exporter` says what vLLM is given and how it is served. The other modules run
inside vLLM: `plugin` is its entry point and imports nothing until it is called,
`models` makes the classes with a reduced head, `head` is that head, `mtp_config`
the config that names one of a target's own prediction layers, and `shards` the
arithmetic of several ranks. The exporter is imported when it is asked for, so
that vLLM's processes load none of it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PLUGIN"]


def __getattr__(name: str) -> Any:
    if name != "PLUGIN":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vocabtrim.engines.vllm.exporter import PLUGIN

    return PLUGIN
