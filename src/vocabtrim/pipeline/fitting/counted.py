"""Counting the traffic of a fit, once.

Counting is what takes long, so counts that lie in the output already are taken
where they are of the very same traffic, read the same way: the hash of every file
says so, which takes a fraction of the time. A count that did not end goes on
where it was, as `count` does by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import ArtifactError
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.count_result import CountResult
from vocabtrim.pipeline.counting.identities import Hashes
from vocabtrim.pipeline.counting.inputs import Inputs
from vocabtrim.pipeline.counting.run import Progress
from vocabtrim.pipeline.fitting.request import COUNTS, Fit
from vocabtrim.sources.files import STDIN


def counted(
    asked: Fit,
    tokenizer_path: Path,
    *,
    restart: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> CountResult:
    """Count the traffic into the output, or take what was counted there.

    Args:
        asked: What is asked for.
        tokenizer_path: That of the target.
        restart: Count anew, whatever there is.
        progress: Told how far counting is.
        notice: Told what a user should know at once, as a sentence.

    Raises:
        CalibrationError: The traffic cannot be used.
        OutputExists: A count that did not end was of other traffic.
        EnvironmentFailure: A worker or a disk failed; the same call continues.
    """
    taken = None if restart else _taken(asked)
    if taken is not None:
        notice(f"{taken.output} has the counts of this traffic already, so it is not read again")
        return taken
    return count(
        asked.traffic,
        tokenizer_path,
        asked.output / COUNTS,
        role=asked.role,
        cap_per_document=asked.cap_per_document,
        leave_out=(asked.output,),
        force=True,
        restart=restart,
        progress=progress,
        notice=notice,
    )


def _taken(asked: Fit) -> CountResult | None:
    """Return what the counts in the output came to, None where they are of something else."""
    began = time.perf_counter()
    path = asked.output / COUNTS
    # what can be read only once is left for the counting
    if STDIN in asked.traffic or not path.is_file():
        return None
    try:
        counts, manifest = read_counts(path)
    except ArtifactError:
        # it would be replaced in any case
        return None
    options: dict[str, object] = {
        "role": asked.role,
        "cap_per_document": asked.cap_per_document,
        "field": None,
        "domains": {},
    }
    if manifest.options != options:
        return None
    inputs = Inputs.find(asked.traffic, {}, leave_out=(asked.output,))
    if {file.name for file in inputs.files} != manifest.inputs.keys():
        return None
    with Hashes(inputs.files) as hashes:
        if hashes.wait() != manifest.inputs:
            return None
    facts = manifest.facts
    return CountResult.of(
        counts,
        output=path,
        files=len(inputs.files),
        bytes=inputs.size or 0,
        empty=facts["empty"],
        left_out=facts["left_out"],
        backend=facts["backend"],
        backend_reason=facts["backend_reason"],
        seconds=time.perf_counter() - began,
        warnings=facts["warnings"],
    )
