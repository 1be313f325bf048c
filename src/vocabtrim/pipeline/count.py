"""`vocabtrim count`: calibration data to counts.

Files are found, each is cut by the source that its content calls for, and the
pieces are counted by a crew: this process, as many as there are cores, or a
cluster. The result depends on the set of files and on the options, and on
nothing else: not on the order in which files were named, on who counted, or on
how often the work was interrupted.

How that is done is in `pipeline/counting/`; adding count files is in `merge.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.manifest import refuse_existing
from vocabtrim.pipeline.count_result import CountResult
from vocabtrim.pipeline.counting.checkpoint import Begun, Checkpoint, Request, part_of
from vocabtrim.pipeline.counting.crew import Alone, Crew
from vocabtrim.pipeline.counting.identities import Hashes, identity, tokenizer_identity
from vocabtrim.pipeline.counting.inputs import Inputs
from vocabtrim.pipeline.counting.run import Counted, Progress, Run
from vocabtrim.pipeline.counting.tasks import Job
from vocabtrim.pipeline.counting.workers import Workers

READ_ONCE = "standard input can be read only once: if this count is interrupted, it begins anew"


def count(
    data: Sequence[str | Path],
    tokenizer_path: Path,
    output: Path,
    *,
    domains: Mapping[str, str] | None = None,
    role: str = "assistant",
    cap_per_document: int | None = None,
    field: str | None = None,
    backend: str = "auto",
    workers: int | None = None,
    ray: str | None = None,
    leave_out: Sequence[Path] = (),
    strict: bool = False,
    restart: bool = False,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> CountResult:
    """Count the tokens of calibration data and write them.

    What an interrupted call left in `OUTPUT.part` is continued where it was asked
    for the same.

    Args:
        data: Files, directories, patterns, URLs, "-"; `output` itself is left out.
        tokenizer_path: A directory with a `tokenizer.json`, or that file.
        output: The file to make.
        domains: Name to a pattern; documents of the files that match are
            counted for the domain too. An empty pattern stands for the records
            that name the domain themselves, in their field `domain`.
        role: Whose turns of a conversation count.
        cap_per_document: An id counts at most so often in one document.
        field: The field of a record to read; None: the one that it has.
        backend: What encodes: one of `tokenizer.BACKENDS`.
        workers: Processes; None: one for every core. With 1, and where there is
            little to count, this process counts itself.
        ray: Address of a Ray cluster that counts instead: "auto", "local", ….
        leave_out: Files, and directories with all in them, that are not counted
            either.
        strict: A record that cannot be used is an error, and not left out.
        restart: Forget what an interrupted call left.
        force: Replace `output` if it exists.
        progress: Told after every task how far the work is.
        notice: Told what a user should know at once, as a sentence.
        clock: Seconds since whenever.

    Raises:
        CalibrationError: Data is missing, or nothing in a file can be used (names
            file and line); an option is impossible; there is nothing to count.
        TokenizerError: The tokenizer is missing or damaged.
        OutputExists: `output` is there and `force` is not given, or another
            command left its part.
        EnvironmentFailure: A worker or a disk failed; the same call continues.
    """
    refuse_existing(output, force=force)
    began = clock()
    inputs = Inputs.find(data, domains or {}, leave_out=(output, part_of(output), *leave_out))
    named = frozenset(name for name, pattern in inputs.patterns.items() if not pattern)
    job = Job(tokenizer_path, role, cap_per_document, field, backend, named)
    options = {
        "role": role,
        "cap_per_document": cap_per_document,
        "field": field,
        "domains": dict(inputs.patterns),
    }
    request = _request(job, inputs, options)
    checkpoint = Checkpoint(output, request, keep=not inputs.read_once, clock=clock)
    begun = checkpoint.begun(restart=restart)
    _announce(notice, inputs, begun, checkpoint)
    with Hashes(inputs.files) as hashes:
        run = Run(
            inputs,
            job,
            checkpoint,
            crew=_crew(workers, ray),
            strict=strict,
            progress=progress,
            notice=notice,
            passing=hashes.passing,
            clock=clock,
        )
        counted = run.count(begun)
        hashed = hashes.wait()
    counts = counted.tally.sums.total(counted.facts.fingerprint, counted.facts.special)
    warnings = _warnings(counted, counts, inputs, request)
    if counts.n_tokens == 0:
        reasons = "".join(f"; {sentence}" for sentence in warnings)
        raise CalibrationError(f"nothing to count in {counted.tally.empty:,} documents{reasons}")
    write_counts(
        output,
        counts,
        inputs=hashed,
        options=options,
        facts=_facts(counted, counts, warnings),
        force=force,
    )
    checkpoint.remove()
    return CountResult.of(
        counts,
        output=output,
        files=len(inputs.files),
        bytes=inputs.size or 0,
        empty=counted.tally.empty,
        left_out=_left_out(counted),
        backend=counted.facts.backend,
        backend_reason=counted.facts.backend_reason,
        seconds=clock() - began,
        warnings=warnings,
    )


def _crew(workers: int | None, ray: str | None) -> Callable[[Job], Crew]:
    """Return what makes who counts.

    Raises:
        CalibrationError: There cannot be so many workers.
    """
    if ray is not None:
        from vocabtrim.pipeline.counting.cluster import Cluster

        return lambda job: Cluster(job, ray)
    number = _cores() if workers is None else workers
    if number < 1:
        raise CalibrationError(f"it takes 1 worker or more to count, found {number}")
    return lambda job: Workers(job, number) if number > 1 else Alone(job)


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _request(job: Job, inputs: Inputs, options: Mapping[str, Any]) -> Request:
    tokenizer = {
        "tokenizer": tokenizer_identity(job.tokenizer),
        "backend": job.backend,
        "tool": f"vocabtrim {version('vocabtrim')}",
    }
    return Request({**options, **tokenizer}, {file.name: identity(file) for file in inputs.files})


def _announce(
    notice: Callable[[str], None], inputs: Inputs, begun: Begun | None, checkpoint: Checkpoint
) -> None:
    if inputs.read_once:
        notice(READ_ONCE)
    if begun is None:
        return
    notice(
        f"continuing {checkpoint.path} from {inputs.described(begun.tally.place)}: "
        f"{begun.tally.documents:,} documents are counted already"
    )


def _warnings(
    counted: Counted, counts: TokenCounts, inputs: Inputs, request: Request
) -> tuple[str, ...]:
    """Return what a user should know of the result, one sentence each."""
    told = [
        f"{sentence} ({number:,} document{'s' * (number != 1)})"
        for sentence, number in sorted(counted.tally.warnings.items())
    ]
    left_out = [entry.sentence(reason) for reason, entry in counted.tally.left_out.items()]
    without = [name for name in inputs.patterns if not counts.domains[name].n_documents]
    changed = [
        f"{file.name} changed while it was counted"
        for file in inputs.files
        if identity(file) != request.files[file.name]
    ]
    return (
        *counted.facts.warnings,
        *([counted.mismatch] if counted.mismatch else []),
        *told,
        *left_out,
        *(f"domain {name} has no document" for name in without),
        *changed,
    )


def _facts(counted: Counted, counts: TokenCounts, warnings: Sequence[str]) -> dict[str, Any]:
    return {
        "tokens": counts.n_tokens,
        "empty": counted.tally.empty,
        "left_out": _left_out(counted),
        "backend": counted.facts.backend,
        "backend_reason": counted.facts.backend_reason,
        "warnings": list(warnings),
    }


def _left_out(counted: Counted) -> dict[str, dict[str, Any]]:
    return {
        reason: {
            "records": entry.records,
            "places": [f"{file}:{line}" for file, line in entry.places],
        }
        for reason, entry in counted.tally.left_out.items()
    }
