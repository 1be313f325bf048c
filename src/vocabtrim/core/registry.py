"""Plug-ins by file name.

A seam is a package whose modules are its plug-ins: the file name is the key,
and each module defines `PLUGIN`. Third parties add theirs under the entry
point group of the same name. Nothing is imported to list the names, and an
error inside a plug-in propagates with its cause: a broken file is never
reported as an unknown name.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vocabtrim.core.errors import PluginError


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one seam.

    Args:
        package: Dotted name of the package that holds them; also the entry
            point group, as in `vocabtrim.rules`.
        noun: What one of them is called in messages.
        beside: Modules of the package that are no plug-ins; private ones
            never are.
    """

    package: str
    noun: str
    beside: frozenset[str] = frozenset({"base"})

    def names(self) -> list[str]:
        """Return the keys, sorted.

        Raises:
            PluginError: A third party uses a name that is taken.
        """
        own = {
            info.name
            for info in pkgutil.iter_modules(importlib.import_module(self.package).__path__)
            if info.name not in self.beside and not info.name.startswith("_")
        }
        foreign = [point.name for point in _entry_points(self.package, tuple(sys.path))]
        for name in foreign:
            if name in own or foreign.count(name) > 1:
                raise PluginError(
                    f"the {self.noun} {name!r} is registered twice under {self.package}"
                )
        return sorted(own | set(foreign))

    def load(self, name: str) -> Any:
        """Import the plug-in `name` and return its `PLUGIN`.

        Raises:
            PluginError: There is none of that name; names those there are.
        """
        if name not in self.names():
            raise PluginError(
                f"no {self.noun} is called {name!r}; there are {', '.join(self.names())}"
            )
        for point in _entry_points(self.package, tuple(sys.path)):
            if point.name == name:
                return point.load().PLUGIN
        return importlib.import_module(f"{self.package}.{name}").PLUGIN

    def load_all(self) -> dict[str, Any]:
        """Return every plug-in by name, in the order of `names`."""
        return {name: self.load(name) for name in self.names()}


@lru_cache
def _entry_points(package: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group; finding them opens a file for every package."""
    return tuple(entry_points(group=package))
