"""What an inference engine is to us: what it reads, how it reads it, how it is served.

An engine states facts; files are written by `pipeline/export.py`, for all engines
alike. Its facts are *cells*: a family of drafters in a container, each with how
far that is proven. *Served*: a test has the engine draft with it. *Loaded*: the
engine's own loading code read it in a test. *By reading*: its source says so and
nothing was run. What is below *loaded* is written only when asked for by name of
the risk (`--unproven`).

`read_back` looks at what was exported as the engine would, from its rules alone
and not from ours, so that an export is compared with what was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, PluginError
from vocabtrim.core.registry import Registry
from vocabtrim.tensors.eagle3_layout import Counting

ENGINES = Registry("vocabtrim.engines", "engine", beside=frozenset({"base", "openai", "serving"}))


GAMMA = 3
"""Tokens drafted in a cycle, where nobody says."""


class Level(StrEnum):
    """How far it is proven that an engine drafts with something."""

    SERVED = "served"
    LOADED = "loaded"
    BY_READING = "by reading"

    @property
    def proven(self) -> bool:
        """Whether code of the engine ran on it."""
        return self is not Level.BY_READING


class Container(StrEnum):
    """In what an engine is given a drafter.

    Sharded checkpoints and `.bin` files are read by us and written as one
    safetensors file, so they are no containers of their own here.
    """

    FLAT = "safetensors"
    SPECULATORS = "speculators"
    GGUF = "gguf"
    ID_LIST = "token map"


@dataclass(frozen=True)
class Cell:
    """What an engine does with one family in one container.

    Args:
        family: Key of the families' registry, or what GGUF calls the architecture.
        container: In what.
        level: How far it is proven.
        note: What a user must know, if anything.
    """

    family: str
    container: Container
    level: Level
    note: str = ""


@dataclass(frozen=True, eq=False)
class ReadBack:
    """A drafter as an engine reads it.

    Args:
        ids: [K] int64 target ids in the order of the head's rows; None where it
            drafts over all.
        rows: Rows of the head that it would build; None where it is the target's.
        layers: Indices of `hidden_states` that are fed to it; None where the
            engine takes its default, or feeds none.
    """

    ids: NDArray[np.int64] | None
    rows: int | None
    layers: tuple[int, ...] | None


class Engine(Protocol):
    """One engine."""

    @property
    def name(self) -> str:
        """As its makers write it."""
        ...

    @property
    def summary(self) -> str:
        """One line for `vocabtrim engines`."""
        ...

    @property
    def version(self) -> str:
        """The version that was read and run."""
        ...

    @property
    def cells(self) -> Sequence[Cell]:
        """What it reads."""
        ...

    @property
    def counting(self) -> Counting:
        """How a flat EAGLE-3 config must count the target's layers for it."""
        ...

    def config(
        self, config: Mapping[str, Any], container: Container, *, owns_head: bool
    ) -> dict[str, Any]:
        """Return a drafter's config as this engine needs it.

        Args:
            config: Flat, its feature layers stated as `counting` asks, under the
                class name that stock loaders take.
            container: In what it is given to the engine.
            owns_head: Whether a head is stored beside it.
        """
        ...

    def read_back(self, output: Path, container: Container) -> ReadBack:
        """Read what was exported, by the engine's own rules.

        Raises:
            CheckpointError: The engine would not take it.
        """
        ...

    def command(self, output: Path, target: str, cell: Cell, *, gamma: int = GAMMA) -> str:
        """Return the command that serves it, to be pasted into a shell.

        Args:
            output: What was exported.
            target: The target, as the engine takes it.
            cell: As what.
            gamma: Tokens drafted in a cycle.
        """
        ...


def engine_named(name: str) -> Engine:
    """Return an engine by its name or by its key, in any case: "llama.cpp" or "llama_cpp".

    Raises:
        PluginError: There is none of that name; names those there are.
    """
    engines: dict[str, Engine] = ENGINES.load_all()
    for key, engine in engines.items():
        if name.casefold() in (key, engine.name):
            return engine
    names = ", ".join(engine.name for engine in engines.values())
    raise PluginError(f"no engine is called {name!r}; there are {names}")


def cell_of(engine: Engine, family: str, containers: Iterable[Container]) -> Cell | None:
    """Return the first of the engine's cells for a family in one of some containers."""
    wanted = list(containers)
    found = [one for one in engine.cells if one.family == family and one.container in wanted]
    return min(found, key=lambda one: wanted.index(one.container), default=None)


def offset_ids(d2t: NDArray[Any] | None) -> NDArray[np.int64] | None:
    """Return the ids that an engine makes of a safetensors `d2t`: offset plus position."""
    return None if d2t is None else d2t.astype(np.int64) + np.arange(d2t.size)


def head_rows(shape: tuple[int, ...] | None, stated: int, ids: int | None, path: Path) -> int:
    """Return the rows of a head, where an engine would load it.

    Args:
        shape: Of the stored head; None where there is none.
        stated: Rows that the engine allocates.
        ids: Entries of the map, where there is one.
        path: Named in errors.

    Raises:
        CheckpointError: The three differ.
    """
    rows = stated if shape is None else shape[0]
    if rows != stated or ids not in (None, rows):
        raise CheckpointError(
            f"its head has {rows} rows, its config says {stated}, and its map has "
            f"{'none' if ids is None else ids}",
            path=path,
        )
    return rows
