"""`vocabtrim trace --resolve`: what candidates leave open, looked up.

A draft vocabulary can be asked about that contains none of the ids kept at a
position, though it does contain the target's token, which ranks below them.
Whether the draft is accepted then depends on ids that were not kept. They are
few positions, and one more pass over their texts names all the ids above the
target's token there. Counts ask for every size of their order at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts_file import KIND as COUNTS
from vocabtrim.core.errors import TokenizerMismatch
from vocabtrim.core.manifest import read_manifest, refuse_existing
from vocabtrim.core.trace import Trace, TraceError
from vocabtrim.core.trace_file import read_trace, write_trace
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.pipeline.pair import open_pair
from vocabtrim.pipeline.replay import nested_of
from vocabtrim.replay.replay import OpenPositions, accepted, check

if TYPE_CHECKING:
    from vocabtrim.replay.trace import Tracer

NEAR = 0.05
"""Ranks may differ by rounding; by more, and the models are others."""


@dataclass(frozen=True)
class ResolveResult:
    """What looking up came to.

    Args:
        trace: The trace that was read.
        output: The trace that was written.
        found: Positions looked up now.
        known: Positions that had been looked up before.
    """

    trace: str
    output: str
    found: int
    known: int

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {
            "resolve": {
                "trace": self.trace,
                "output": self.output,
                "found": self.found,
                "known": self.known,
            }
        }

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        before = f" besides {self.known:,} known before" if self.known else ""
        return [f"resolved   {self.found:,} open positions{before}  →  {self.output}"]


def resolve_trace(
    path: Path,
    files: Sequence[Path],
    target: Path,
    drafter: Path,
    output: Path,
    *,
    force: bool = False,
) -> ResolveResult:
    """Look up what a trace leaves open and write the trace that knows it.

    Args:
        path: A trace.
        files: Counts and draft vocabularies.
        target: Directory of the target that it is of.
        drafter: Directory of the drafter that it is of.
        output: The trace to make.
        force: Replace `output`.

    Raises:
        OutputExists: `output` is there and `force` is not given.
        ArtifactError: A file is not what it should be.
        TokenizerMismatch: Files or models belong to different tokenizers.
        TraceError: The models are not those of the trace.
    """
    from vocabtrim.replay.trace import Tracer

    refuse_existing(output, force=force)
    trace, manifest = read_trace(path)
    known = len(trace.above)
    if len(open_positions(trace, files)):
        pair = open_pair(target, drafter, str(manifest.facts.get("dtype", "float32")))
        TokenizerMismatch.check(
            "the models have another tokenizer than the trace",
            expected=trace.tokenizer,
            found=pair.tokenizer,
        )
        tracer = Tracer(
            pair.target,
            pair.drafter,
            max_gamma=trace.max_gamma,
            width=trace.width,
            tokenizer=trace.tokenizer,
        )
        trace = looked_up(trace, files, tracer)
    write_trace(
        output,
        trace,
        inputs=manifest.inputs,
        options=manifest.options,
        facts=manifest.facts,
        force=force,
    )
    return ResolveResult(str(path), str(output), len(trace.above) - known, known)


def open_positions(trace: Trace, files: Sequence[Path]) -> NDArray[np.int64]:
    """Return the positions that any of the files leaves open.

    Args:
        trace: A trace.
        files: Counts, of which every size counts, and draft vocabularies.

    Returns:
        [n, 2] int64 rows and depths, each once.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for file in files:
        if read_manifest(file).kind == COUNTS:
            found.append(nested_of(trace, file)[0].open)
            continue
        vocab = read_vocab(file)[0].over(trace.vocab_size)
        check(trace, vocab)
        try:
            accepted(trace, vocab.t2d)
        except OpenPositions as fault:
            found.append(fault.rows)
    return np.unique(np.concatenate(found), axis=0)


def looked_up(trace: Trace, files: Sequence[Path], tracer: Tracer) -> Trace:
    """Return the trace with nothing open for any of the files.

    Raises:
        TraceError: The models are not those of the trace.
    """
    from vocabtrim.replay.trace import resolved

    rows = open_positions(trace, files)
    if not len(rows):
        return trace
    whole = resolved(tracer, trace, rows)
    ranks = trace.target_rank[rows[:, 0], rows[:, 1]]
    sizes = np.array([whole.above[int(row), int(depth)].size for row, depth in rows])
    if (np.abs(sizes - ranks) > 2 + NEAR * ranks).any():
        raise TraceError(
            "ids rank otherwise with these models than in the trace: it was made with others"
        )
    return whole
