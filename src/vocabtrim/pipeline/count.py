"""`vocabtrim count`: calibration data to counts.

Files are found, each is read as a stream by the source that its content calls
for, and documents go in batches of bounded size to a `BatchCounter`; the
batches' counts are added. The result depends on the set of files and on the
options, not on the order in which they were named.

`merge` adds count files that were made apart. It cannot see whether two of them
counted different text, but the hashes of their inputs tell where they counted
the same file, and it says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts, write_counts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.manifest import Manifest, file_hash, refuse_existing
from vocabtrim.sources.base import Document, Reading, find_files, source_of
from vocabtrim.tokens.counting import BatchCounter

BATCH_DOCUMENTS = 1000
BATCH_BYTES = 8 << 20

COMPARED = ("role", "cap_per_document")
"""Options in which counts that are merged should agree."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in total."""


@dataclass(frozen=True)
class CountResult:
    """What counting came to.

    Args:
        output: The file written.
        tokenizer: Its fingerprint.
        V: Ids of the tokenizer.
        files: Files read.
        bytes: Their size.
        documents: Documents counted.
        empty: Documents without a token that counts; they are in no count.
        tokens: Tokens counted.
        distinct: Ids seen at least once.
        domains: Domain to its `documents`, `tokens` and `distinct`.
        seconds: Time that it took.
        warnings: Substitutes and oddities, one sentence each.
    """

    output: str
    tokenizer: str
    V: int
    files: int
    bytes: int
    documents: int
    empty: int
    tokens: int
    distinct: int
    domains: Mapping[str, Mapping[str, int]]
    seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"count": asdict(self)}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        empty = f"; {self.empty:,} without a token to count" if self.empty else ""
        head = [
            f"counts     {self.tokens:,} tokens  →  {self.output}",
            f"documents  {self.documents:,} in {self.files:,} file{'s' * (self.files != 1)}{empty}",
            f"ids        {self.distinct:,} of {self.V:,} seen ({self.distinct / self.V:.1%})",
        ]
        parts = [
            f"  {name:<16}{part['tokens']:,} tokens, {part['distinct']:,} ids, "
            f"{part['documents']:,} documents"
            for name, part in self.domains.items()
        ]
        return [*head, *parts, f"read       {self.bytes / 1e6:.1f} MB in {self.seconds:.1f} s"]


def count(
    data: Sequence[str | Path],
    tokenizer_path: Path,
    output: Path,
    *,
    domains: Mapping[str, str] | None = None,
    role: str = "assistant",
    cap_per_document: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> CountResult:
    """Count the tokens of calibration data and write them.

    Args:
        data: Files, directories and patterns; `output` itself is left out.
        tokenizer_path: A directory with a `tokenizer.json`, or that file.
        output: The file to make.
        domains: Name to a pattern; documents of the files that match are
            counted for the domain too. An empty pattern stands for the records
            that name the domain themselves, in their field `domain`.
        role: Whose turns of a conversation count.
        cap_per_document: An id counts at most so often in one document.
        force: Replace `output` if it exists.
        progress: Told after every batch how far the work is.
        clock: Seconds since whenever.

    Raises:
        CalibrationError: Data is missing or damaged (names file and line), an
            option is impossible, or there is nothing to count.
        TokenizerError: The tokenizer is missing or damaged.
        OutputExists: `output` is there and `force` is not given.
    """
    refuse_existing(output, force=force)
    began = clock()
    files = [path for path in find_files(data) if path.resolve() != output.resolve()]
    members = _Domains.of(domains or {}, files)
    counter = BatchCounter.open(tokenizer_path, role=role, cap_per_document=cap_per_document)
    reading = Reading(counter.tokenizer.fingerprint, counter.tokenizer.vocab_size, role)
    counts, empty, warnings = counter.nothing(sorted(members.patterns)), 0, Counter[str]()
    total = sum(path.stat().st_size for path in files)
    for batch, done in _batches(files, reading):
        result = counter.count(
            [document.content for document in batch],
            [members.of_document(document) for document in batch],
        )
        counts += result.counts
        empty += result.empty
        warnings.update(result.warnings)
        warnings.update(document.warning for document in batch if document.warning)
        if progress is not None:
            progress(done, total)
    sentences = (*counter.warnings, *_told(warnings), *members.unused(counts))
    if counts.n_tokens == 0:
        reasons = "".join(f"; {sentence}" for sentence in sentences)
        raise CalibrationError(f"nothing to count in {empty:,} documents{reasons}")
    write_counts(
        output,
        counts,
        inputs={str(path): file_hash(path) for path in files},
        options={
            "role": role,
            "cap_per_document": cap_per_document,
            "domains": dict(sorted(members.patterns.items())),
        },
        facts={"tokens": counts.n_tokens, "empty": empty, "warnings": list(sentences)},
        force=force,
    )
    seconds = clock() - began
    return _result(output, counts, files, empty=empty, seconds=seconds, warnings=sentences)


def merge(
    paths: Sequence[Path],
    output: Path,
    *,
    force: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> CountResult:
    """Add count files and write the sum.

    Args:
        paths: Count files of one tokenizer; the same file twice counts once.
        output: The file to make.
        force: Replace `output` if it exists.
        clock: Seconds since whenever.

    Raises:
        ArtifactError: A file is not what it should be.
        TokenizerMismatch: The counts come from different tokenizers.
        OutputExists: `output` is there and `force` is not given.
    """
    refuse_existing(output, force=force)
    began = clock()
    files = sorted({path.resolve(): path for path in reversed(paths)}.values())
    if not files:
        raise CalibrationError("there are no count files to merge")
    first, _ = read_counts(files[0])
    read = [read_counts(path, tokenizer=first.tokenizer) for path in files]
    manifests = [manifest for _, manifest in read]
    counts = reduce(add, (part for part, _ in read))
    empty = sum(int(manifest.facts.get("empty", 0)) for manifest in manifests)
    warnings = _merge_warnings(manifests)
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
    seconds = clock() - began
    return _result(output, counts, files, empty=empty, seconds=seconds, warnings=warnings)


@dataclass(frozen=True)
class _Domains:
    """Which documents belong to which domains.

    Args:
        patterns: Domain to its pattern; empty: records that name it.
        by_file: File to the domains of all its documents.
    """

    patterns: Mapping[str, str]
    by_file: Mapping[Path, frozenset[str]]

    @classmethod
    def of(cls, patterns: Mapping[str, str], files: Sequence[Path]) -> _Domains:
        """Match files with patterns.

        Raises:
            CalibrationError: A pattern matches no file.
        """
        for name, pattern in patterns.items():
            if pattern and not any(_matches(path, pattern) for path in files):
                raise CalibrationError(f"domain {name}: none of the files matches {pattern!r}")
        by_file = {
            path: frozenset(
                name for name, glob in patterns.items() if glob and _matches(path, glob)
            )
            for path in files
        }
        return cls(patterns, by_file)

    def of_document(self, document: Document) -> frozenset[str]:
        """Return the domains of a document."""
        named = document.domain
        own = {named} if named is not None and self.patterns.get(named) == "" else set()
        return self.by_file[document.path] | own

    def unused(self, counts: TokenCounts) -> list[str]:
        """Return a warning for each domain without a document."""
        empty = [name for name in sorted(self.patterns) if not counts.domains[name].n_documents]
        return [f"domain {name} has no document" for name in empty]


def _matches(path: Path, pattern: str) -> bool:
    """Whether a pattern means a file: by its name as given, its end, or its full name."""
    spellings = (path.as_posix(), path.absolute().as_posix())
    return path.match(pattern) or any(fnmatchcase(one, pattern) for one in spellings)


def _batches(files: Sequence[Path], reading: Reading) -> Iterator[tuple[list[Document], int]]:
    """Yield batches of documents, and the bytes read so far."""
    batch: list[Document] = []
    before = held = 0
    for path in files:
        stop = 0
        for document in _documents(path, reading):
            batch.append(document)
            held += document.stop - stop
            stop = document.stop
            if len(batch) >= BATCH_DOCUMENTS or held >= BATCH_BYTES:
                yield batch, before + stop
                batch, held = [], 0
        before += path.stat().st_size
    if batch:
        yield batch, before


def _documents(path: Path, reading: Reading) -> Iterator[Document]:
    try:
        yield from source_of(path).read(path, reading)
    except OSError as fault:
        raise CalibrationError(f"it cannot be read ({fault.strerror})", path=path) from fault


def _told(warnings: Mapping[str, int]) -> list[str]:
    return [
        f"{sentence} ({number:,} document{'s' * (number != 1)})"
        for sentence, number in sorted(warnings.items())
    ]


def _data(manifest: Manifest) -> set[tuple[str, str]]:
    """Return name and hash of the calibration files, also behind merged counts."""
    return {(name, digest) for name, digest in manifest.facts.get("data", manifest.inputs.items())}


def _told_once(option: str, manifests: Sequence[Manifest]) -> Any:
    """Return what an option was for all files, or the list of what it was."""
    values = {
        str(manifest.options.get(option)): manifest.options.get(option) for manifest in manifests
    }
    return sorted(values) if len(values) > 1 else next(iter(values.values()))


def _merge_warnings(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    names_by_digest: dict[str, list[str]] = {}
    for manifest in manifests:
        for digest in {digest for _, digest in _data(manifest)}:
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


def _result(
    output: Path,
    counts: TokenCounts,
    files: Sequence[Path],
    *,
    empty: int,
    seconds: float,
    warnings: Sequence[str],
) -> CountResult:
    return CountResult(
        output=str(output),
        tokenizer=counts.tokenizer,
        V=counts.vocab_size,
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
        documents=counts.n_documents,
        empty=empty,
        tokens=counts.n_tokens,
        distinct=counts.n_distinct,
        domains={
            name: {
                "documents": part.n_documents,
                "tokens": part.n_tokens,
                "distinct": part.n_distinct,
            }
            for name, part in counts.domains.items()
        },
        seconds=seconds,
        warnings=tuple(warnings),
    )
