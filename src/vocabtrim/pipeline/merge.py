"""`vocabtrim count --merge`: count files made apart, or by other tools, to one.

Counts add up, so shards from different machines or days become what one count
of all the data would have been. `merge` cannot see whether two of them counted
different text, but the hashes of their inputs tell where they counted the same
file, and it says so; it also says where they were counted differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.manifest import Manifest, file_hash, refuse_existing
from vocabtrim.pipeline.count_result import CountResult
from vocabtrim.pipeline.foreign_counts import read_any_counts
from vocabtrim.tokens.tokenizer import Tokenizer

COMPARED = ("role", "cap_per_document", "field")
"""Options in which counts that are merged should agree."""

HASHES = ("sha256:", "fsspec:")
"""What the hash of an input begins with, where there is one."""


def merge(
    paths: Sequence[Path],
    output: Path,
    *,
    tokenizer: Path | None = None,
    force: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> CountResult:
    """Add count files and write the sum.

    Args:
        paths: Count files of one tokenizer, and frequencies that another tool
            counted; the same file twice counts once.
        output: The file to make.
        tokenizer: Whose ids other tools' files hold.
        force: Replace `output` if it exists.
        clock: Seconds since whenever.

    Raises:
        ArtifactError: A file is not what it should be, or is of another tool and
            `tokenizer` is not given.
        CalibrationError: There are no files, or one holds no frequencies.
        MissingExtra: One is a `.pt` file, and torch is not installed.
        TokenizerMismatch: The counts come from different tokenizers.
        OutputExists: `output` is there and `force` is not given.
    """
    refuse_existing(output, force=force)
    began = clock()
    files = sorted({path.resolve(): path for path in reversed(paths)}.values())
    if not files:
        raise CalibrationError("there are no count files to merge")
    opened = None if tokenizer is None else Tokenizer.open(tokenizer)
    counts, manifest = read_any_counts(files[0], opened)
    manifests = [manifest]
    for path in files[1:]:
        part, manifest = read_any_counts(path, opened, fingerprint=counts.tokenizer)
        counts += part
        manifests.append(manifest)
    empty = sum(int(manifest.facts.get("empty", 0)) for manifest in manifests)
    warnings = _warnings(manifests)
    write_counts(
        output,
        counts,
        inputs={str(path): file_hash(path) for path in files},
        options={"merge": True} | {option: _told_once(option, manifests) for option in COMPARED},
        facts={
            "tokens": counts.n_tokens,
            "empty": empty,
            "data": sorted({pair for manifest in manifests for pair in _data(manifest)}),
            "warnings": list(warnings),
        },
        force=force,
    )
    return CountResult.of(
        counts,
        output=output,
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
        empty=empty,
        left_out={},
        backend=None,
        backend_reason="",
        seconds=clock() - began,
        warnings=warnings,
    )


def _data(manifest: Manifest) -> set[tuple[str, str]]:
    """Return name and hash of the calibration files, also behind merged counts."""
    return {(name, digest) for name, digest in manifest.facts.get("data", manifest.inputs.items())}


def _told_once(option: str, manifests: Sequence[Manifest]) -> Any:
    """Return what an option was for all files, or the list of what it was."""
    values = {
        str(manifest.options.get(option)): manifest.options.get(option) for manifest in manifests
    }
    return sorted(values) if len(values) > 1 else next(iter(values.values()))


def _warnings(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    names_by_digest: dict[str, list[str]] = {}
    for manifest in manifests:
        for digest in {digest for _, digest in _data(manifest) if digest.startswith(HASHES)}:
            name = min(name for name, one in _data(manifest) if one == digest)
            names_by_digest.setdefault(digest, []).append(name)
    warnings = [
        f"{min(names)} was counted in {len(names)} of the files, so its tokens count that often"
        for names in names_by_digest.values()
        if len(names) > 1
    ]
    for option in COMPARED:
        found = _told_once(option, manifests)
        if isinstance(found, list):
            warnings.append(f"the files were counted with different {option}: {found}")
    inherited = {str(one) for manifest in manifests for one in manifest.facts.get("warnings", ())}
    return (*sorted(warnings), *sorted(inherited))
