"""The directory of a fit: whose it is, and what of an earlier one may stay in it.

Its manifest is the first thing in it and says what was asked for; `fit.json` is the
last and says that all of it was done. In between it belongs to whoever asks for the
same again, or for the same with another K.

What was made of a drafter never stays: beside another `fit.json` it would be taken
for what that one tells of. Counts stay for as long as they were made by this version
with this tokenizer; whether they are of the same traffic, `counted.py` finds out.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import OutputExists
from vocabtrim.core.manifest import DIRECTORY_MANIFEST, Manifest, atomic_file, refuse_existing
from vocabtrim.engines.base import ENGINES
from vocabtrim.pipeline.fitting.request import (
    COUNTS,
    EXPORT,
    EXPORT_FILE,
    REPORT,
    TRIMMED,
    TRIMMED_FILE,
    VOCAB,
    Fit,
)

KIND = "fit"
BEGIN_ANEW = "give --force to begin anew"

FREE = frozenset({"gamma", "top_k", "traces", "latency"})
"""Options that a fit is continued without: nothing that is left of it depends on them."""


def begin(asked: Fit, tokenizer: str, *, force: bool) -> None:
    """Make the directory, or take that of the same fit, which did not end.

    Args:
        asked: What is asked for.
        tokenizer: What the tokenizer's files are known by.
        force: Take also the directory of another fit, or of one that ended.

    Raises:
        OutputExists: It is there and may not be taken; says what was asked for then.
        ArtifactError: Its manifest is damaged.
    """
    output, path = asked.output, asked.output / DIRECTORY_MANIFEST
    document = Manifest(KIND, 0, None, {"tokenizer": tokenizer}, asked.options())
    before = None
    if path.is_file():
        before = Manifest.from_json(path.read_text(encoding="utf-8"), path)
        _refuse(output, before, document, force=force)
    else:
        refuse_existing(output, force=force)
    for made in _made():
        _remove(output / made)
    if before is None or (before.inputs, before.tool) != (document.inputs, document.tool):
        _remove(output / COUNTS)
    output.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, force=True) as temporary:
        temporary.write_text(document.to_json() + "\n", encoding="utf-8")


def _refuse(output: Path, before: Manifest, now: Manifest, *, force: bool) -> None:
    if before.kind != KIND:
        raise OutputExists(output, f"it is no fit ({before.kind}): choose another output")
    if force:
        return
    if (output / REPORT).exists():
        raise OutputExists(output)
    if (difference := _difference(before.options, now.options)) is not None:
        raise OutputExists(output, f"a fit was begun there {difference}; {BEGIN_ANEW}")


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say in what an unfinished fit differs from this one; None: in nothing that matters."""
    for name in sorted({*before, *now} - FREE):
        if before.get(name) != now.get(name):
            shown = name.replace("_", " ")
            return f"with {shown} {_shown(before.get(name))}, not {_shown(now.get(name))}"
    return None


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _made() -> Iterator[str]:
    """Yield the names of all that a fit may have made of a drafter, the report first."""
    yield from (REPORT, VOCAB, TRIMMED, TRIMMED_FILE)
    for engine in ENGINES.load_all().values():
        yield from (EXPORT.format(engine.name), EXPORT_FILE.format(engine.name))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
