"""What it takes to measure an engine as a server.

A plug-in of this seam states facts: how its program is found, the command line
that serves a target with or without a drafter, which fields make a request
greedy, where its counters are. Starting, asking and ending are the same for all
of them (`launch.py`, `answers.py`, `group.py`).

What an engine reads and how a drafter is written for it is the other seam,
`vocabtrim.engines`; the names agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vocabtrim.core.errors import EnvironmentFailure, PluginError, VocabtrimError
from vocabtrim.core.registry import Registry
from vocabtrim.engines.base import Container
from vocabtrim.engines.serving.counters import CounterNames

SERVERS = Registry(
    "vocabtrim.engines.serving",
    "engine that serves",
    beside=frozenset({"answers", "base", "counters", "group", "interrupts", "launch"}),
)

HOST = "127.0.0.1"
"""Servers of ours listen on this machine alone."""


class EngineError(VocabtrimError):
    """An engine is missing, too old, or refuses what it is given."""


class EngineFailure(EnvironmentFailure):
    """An engine ran out of memory, hangs, or ended in the middle of its work."""


class OutOfMemory(EngineFailure):
    """An engine found too little memory, or was killed for it."""


@dataclass(frozen=True)
class Program:
    """An engine's program as it was found.

    Args:
        words: The beginning of its command line.
        version: What it says of itself.
        options: The options that it is known to take; None where nobody asked it.
    """

    words: tuple[str, ...]
    version: str
    options: frozenset[str] | None = None


@dataclass(frozen=True)
class Serve:
    """What one server is to serve.

    Args:
        target: File or directory of the target.
        drafter: The same of the drafter; None serves without speculation.
        method: How the engine drafts with it, one of `Serving.methods`' values.
        gamma: Draft length; 0 without a drafter.
        slots: Requests that are decoded at once.
        context: Tokens that a request may take, prompt and answer.
        arguments: The user's own, behind ours.
    """

    target: Path
    drafter: Path | None = None
    method: str = ""
    gamma: int = 0
    slots: int = 1
    context: int = 2048
    arguments: tuple[str, ...] = ()


class Serving(Protocol):
    """One engine as a server."""

    @property
    def name(self) -> str:
        """As its makers write it."""
        ...

    @property
    def kind(self) -> str:
        """What its list of models says that it is (`owned_by`)."""
        ...

    @property
    def container(self) -> Container:
        """In what it is given target and drafter: GGUF files, or directories."""
        ...

    @property
    def methods(self) -> Mapping[str, str]:
        """Families of drafters to how it calls drafting with them."""
        ...

    @property
    def counters(self) -> CounterNames:
        """What its counters are called."""
        ...

    @property
    def fields(self) -> Mapping[str, Any]:
        """What a request says beyond the protocol to be greedy and to get ids back."""
        ...

    @property
    def ours(self) -> frozenset[str]:
        """Options that a measurement sets, and a user therefore may not."""
        ...

    @property
    def telling(self) -> re.Pattern[str]:
        """The lines of its output that say why it stopped."""
        ...

    def find(self, server_bin: Path | None, methods: Sequence[str]) -> Program:
        """Find the program.

        Args:
            server_bin: The one that is meant; None looks on the PATH.
            methods: How it will have to draft.

        Raises:
            EngineError: There is none, or it is too old for that.
        """
        ...

    def command(self, program: Program, serve: Serve, *, port: int, alias: str) -> list[str]:
        """Return the command line of a server.

        Args:
            program: From `find`.
            serve: What it serves.
            port: Where it listens.
            alias: What it calls the model.

        Raises:
            EngineError: The user's own arguments cannot be put in.
        """
        ...

    def decode_seconds(self, document: Mapping[str, Any]) -> float | None:
        """Return the time that an answer says its decoding took, prefill left out."""
        ...


def serving_named(name: str) -> Serving:
    """Return an engine by its name or by its key: "llama.cpp" or "llama_cpp".

    Raises:
        PluginError: There is none of that name; names those there are.
    """
    engines: dict[str, Serving] = SERVERS.load_all()
    for key, engine in engines.items():
        if name in (key, engine.name):
            return engine
    names = ", ".join(engine.name for engine in engines.values())
    raise PluginError(f"no engine that serves is called {name!r}; there are {names}")


def refuse_ours(engine: Serving, arguments: Sequence[str]) -> None:
    """Refuse arguments of the user that a measurement sets itself.

    Raises:
        EngineError: There is one.
    """
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in engine.ours:
            raise EngineError(
                f"{option} is set by the measurement itself, which compares drafters and draft "
                "lengths; leave it out behind --"
            )
