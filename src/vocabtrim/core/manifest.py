"""What made an output, and writing that leaves nothing half-done.

Every artifact carries a JSON document: the tool's version, the tokenizer's
fingerprint, V, the inputs by hash and the options. It holds no clock and no
host name, so equal inputs give equal bytes. Outputs are written beside their
place under a temporary name, flushed to disk, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vocabtrim.core.errors import ArtifactError, EnvironmentFailure, OutputExists

METADATA_KEY = "vocabtrim"
DIRECTORY_MANIFEST = "vocabtrim.json"


@dataclass(frozen=True)
class Manifest:
    """The JSON document of an output.

    Args:
        kind: What the output is: "counts", "vocab", "trimmed drafter", …
        vocab_size: V.
        tokenizer: Fingerprint, or None where no tokenizer was at hand.
        inputs: Name of each input to its hash.
        options: What was asked for.
        facts: What came out and is worth keeping: shares, sources, substitutes.
        tool: Name and version of the writer.
    """

    kind: str
    vocab_size: int
    tokenizer: str | None
    inputs: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    tool: str = field(default_factory=lambda: f"vocabtrim {version('vocabtrim')}")

    def to_json(self) -> str:
        """Return the document, keys in a fixed order."""
        return json.dumps(
            {
                "kind": self.kind,
                "tool": self.tool,
                "tokenizer": self.tokenizer,
                "vocab_size": self.vocab_size,
                "inputs": dict(self.inputs),
                "options": dict(self.options),
                "facts": dict(self.facts),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str, path: Path) -> Manifest:
        """Parse a document found in `path`.

        Raises:
            ArtifactError: It is not one of ours.
        """
        try:
            document = json.loads(text)
            return cls(
                kind=str(document["kind"]),
                tool=str(document["tool"]),
                tokenizer=document["tokenizer"],
                vocab_size=int(document["vocab_size"]),
                inputs=dict(document["inputs"]),
                options=dict(document["options"]),
                facts=dict(document["facts"]),
            )
        except (ValueError, KeyError, TypeError) as fault:
            raise ArtifactError(f"{path}: its vocabtrim metadata is damaged ({fault!r})") from fault


def file_hash(path: Path) -> str:
    """Return "sha256:…" of a file's bytes."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def write_artifact(
    path: Path, tensors: Mapping[str, NDArray[Any]], manifest: Manifest, *, force: bool = False
) -> None:
    """Write tensors and their manifest as one safetensors file, atomically.

    Raises:
        OutputExists: `path` is there and `force` is not given.
        EnvironmentFailure: The disk is full or not writable.
    """
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with atomic_file(path, force=force) as temporary:
        temporary.write_bytes(save(contiguous, metadata={METADATA_KEY: manifest.to_json()}))


def read_artifact(path: Path, kind: str) -> tuple[dict[str, NDArray[Any]], Manifest]:
    """Read an artifact of ours of the given kind.

    Raises:
        ArtifactError: The file is missing, damaged, not ours, or of another
            kind; the message names both kinds.
    """
    manifest = read_manifest(path)
    if manifest.kind != kind:
        raise ArtifactError(f"{path} holds {manifest.kind}, but {kind} is needed here")
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, manifest


def read_manifest(path: Path) -> Manifest:
    """Read only the manifest of an artifact.

    Raises:
        ArtifactError: The file is missing, damaged, or not ours.
    """
    if path.is_dir():
        raise ArtifactError(f"{path} is a directory, and a file that vocabtrim wrote is expected")
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as fault:
        raise ArtifactError(f"{path} is not a readable safetensors file ({fault})") from fault
    if METADATA_KEY not in metadata:
        raise ArtifactError(f"{path} was not written by vocabtrim (no metadata of ours in it)")
    return Manifest.from_json(metadata[METADATA_KEY], path)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputExists where `path` may not be written; call before long work.

    With `force`, a file may be replaced, and a directory only where a manifest
    of ours lies in it: nobody loses a home directory to a typing slip.
    """
    if not os.path.lexists(path):
        return
    if not force:
        raise OutputExists(path)
    if path.is_dir() and any(path.iterdir()) and not (path / DIRECTORY_MANIFEST).is_file():
        raise OutputExists(
            path, f"it has no {DIRECTORY_MANIFEST} of ours, so --force does not replace it either"
        )


@contextlib.contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path; on success it becomes `path`, else nothing does.

    Raises:
        OutputExists: `path` is there and `force` is not given.
        EnvironmentFailure: The disk is full or not writable.
    """
    refuse_existing(path, force=force)
    if path.is_dir():
        raise OutputExists(path, "it is a directory, and a file is to be written")
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            # mkstemp makes private files; an artifact gets what open() gives
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield an empty temporary directory; on success it becomes `path`.

    Raises:
        OutputExists: `path` is there and may not be replaced.
        EnvironmentFailure: The disk is full or not writable.
    """
    refuse_existing(path, force=force)
    if path.exists() and not path.is_dir():
        raise OutputExists(path, "it is a file, and a directory is to be written")
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _flush(file)
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
                path.replace(old)
                temporary.replace(path)
                shutil.rmtree(old)
            else:
                temporary.replace(path)
            _flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise EnvironmentFailure(
                f"no room left to write {path} ({fault.strerror}); nothing was kept"
            ) from fault
        if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise EnvironmentFailure(f"{path} cannot be written ({fault.strerror})") from fault
        raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
