"""`OUT.part`: a count that is not finished, and who may go on with it.

It holds the tally of everything before a place, and what was asked for. The
same command goes on from there; one that asks for something else, or of which a
file has changed, is refused, for the sum would be of neither. It is written
whole or not at all, every few seconds at most, so that a process that is killed
loses no more than those. When the output is there, the part is removed.

The same holds for what encodes: its version belongs to what was asked for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import ArtifactError, OutputExists
from vocabtrim.core.manifest import Manifest, read_artifact, read_manifest, write_artifact
from vocabtrim.pipeline.counting.inputs import Place
from vocabtrim.pipeline.counting.tally import LeftOut, Tally
from vocabtrim.sources.base import Skipped
from vocabtrim.tokens.counting import TokenizerFacts
from vocabtrim.tokens.id_counts import RunningCounts

KIND = "an unfinished count"
SECONDS_BETWEEN = 2.0
BEGIN_ANEW = "give --restart to begin anew"


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as counts depend on it.

    Args:
        options: Name to value, as JSON holds it.
        files: Name of each file to its identity, in order.
    """

    options: Mapping[str, Any]
    files: Mapping[str, str]

    def difference(self, begun: Request) -> str | None:
        """Say in what an unfinished count differs from this; None: in nothing."""
        for name in sorted({*self.options, *begun.options}):
            was, now = begun.options.get(name), self.options.get(name)
            if was != now:
                return f"it was begun with {name} {_shown(was)}, not {_shown(now)}"
        for name in sorted({*self.files, *begun.files}):
            if name not in begun.files:
                return f"{name} was not among its files"
            if name not in self.files:
                return f"{name} was among its files and is not among these"
            if begun.files[name] != self.files[name]:
                return (
                    f"{name} has changed since it was begun "
                    f"({begun.files[name]}, then {self.files[name]})"
                )
        return None


@dataclass(frozen=True)
class Begun:
    """What an unfinished count holds.

    Args:
        tally: Everything before a place.
        tokenizer: Fingerprint.
        backend: What encoded.
        mismatch: Why the fast backend was given up; empty where it was not.
    """

    tally: Tally
    tokenizer: str
    backend: str
    mismatch: str


class Checkpoint:
    """Keeps the tally of one count.

    Args:
        output: What is to be written in the end.
        request: What was asked for.
        keep: Whether to write at all: what cannot be read again cannot be
            continued either.
        clock: Seconds since whenever.

    Attributes:
        path: `OUT.part`.
    """

    def __init__(
        self,
        output: Path,
        request: Request,
        *,
        keep: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = part_of(output)
        self._request = request
        self._keep = keep
        self._clock = clock
        self._written = clock()

    def begun(self, *, restart: bool = False) -> Begun | None:
        """Return what the same command counted before, None where it did not.

        Args:
            restart: Forget it.

        Raises:
            OutputExists: Another command began it, or a file has changed since.
            ArtifactError: What lies there is no unfinished count, or damaged.
        """
        if not self.path.exists():
            return None
        try:
            manifest = read_manifest(self.path)
            if manifest.kind != KIND:
                raise ArtifactError(f"it holds {manifest.kind}")
            if restart:
                self.path.unlink()
                return None
            hint = self._request.difference(_request(manifest))
            if hint is not None:
                raise OutputExists(self.path, f"{hint}; {BEGIN_ANEW}")
            tensors, _ = read_artifact(self.path, KIND)
            return _begun(tensors, manifest)
        except (ArtifactError, KeyError, TypeError, ValueError) as fault:
            raise ArtifactError(
                f"{self.path} is in the way: it is no unfinished count, or a damaged one "
                f"({fault}); delete it or choose another output"
            ) from fault

    def save_if_due(self, tally: Tally, facts: TokenizerFacts, mismatch: str) -> None:
        """Write the tally where the last time is long enough ago."""
        if self._clock() - self._written >= SECONDS_BETWEEN:
            self.save(tally, facts, mismatch)

    def save(self, tally: Tally, facts: TokenizerFacts, mismatch: str) -> bool:
        """Write the tally; return whether there is something to continue from.

        Raises:
            EnvironmentFailure: The disk is full or not writable.
        """
        if not self._keep or tally.place == Place.BEGINNING:
            return False
        manifest = Manifest(
            KIND,
            facts.vocab_size,
            facts.fingerprint,
            self._request.files,
            self._request.options,
            {"backend": facts.backend, "mismatch": mismatch, **_facts(tally)},
        )
        write_artifact(self.path, _tensors(tally.sums), manifest, force=True)
        self._written = self._clock()
        return True

    def remove(self) -> None:
        """Remove the part: the output is there, or the count begins anew."""
        if self._keep:
            self.path.unlink(missing_ok=True)


def part_of(output: Path) -> Path:
    """Return where the unfinished count of an output lies."""
    return output.with_name(output.name + ".part")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "none"
    return "none" if value is None else str(value)


def _request(manifest: Manifest) -> Request:
    return Request(manifest.options, manifest.inputs)


def _tensors(sums: RunningCounts) -> dict[str, NDArray[np.int64]]:
    """Return both vectors of every domain, by a name that says whose they are."""
    return {
        f"{kind}.{name}": vector
        for kind, vectors in (("counts", sums.counts), ("documents", sums.documents))
        for name, vector in vectors.items()
    }


def _facts(tally: Tally) -> dict[str, Any]:
    return {
        "n_documents": tally.sums.n_documents,
        "place": asdict(tally.place),
        "empty": tally.empty,
        "warnings": tally.warnings,
        "left_out": {reason: asdict(entry) for reason, entry in tally.left_out.items()},
        "file": tally.file,
        "usable": tally.usable,
        "unusable": None if tally.unusable is None else asdict(tally.unusable),
    }


def _begun(tensors: Mapping[str, NDArray[np.int64]], manifest: Manifest) -> Begun:
    facts = manifest.facts
    sums = RunningCounts(manifest.vocab_size, [name for name in facts["n_documents"] if name])
    for name, documents in facts["n_documents"].items():
        sums.counts[name] += tensors[f"counts.{name}"]
        sums.documents[name] += tensors[f"documents.{name}"]
        sums.n_documents[name] = int(documents)
    left_out = {
        reason: LeftOut(entry["records"], [(file, line) for file, line in entry["places"]])
        for reason, entry in facts["left_out"].items()
    }
    unusable = facts["unusable"]
    tally = Tally(
        sums,
        Place(**facts["place"]),
        int(facts["empty"]),
        Counter(facts["warnings"]),
        left_out,
        facts["file"],
        int(facts["usable"]),
        None if unusable is None else Skipped(**unusable),
    )
    return Begun(tally, str(manifest.tokenizer), facts["backend"], facts["mismatch"])
