"""`vocabtrim trace`: prompts to what a drafter ranks best along the target's answers.

The target's greedy answers are generated first (`pipeline/traced_texts.py`). Then
each is read once and drafted along (`replay/trace.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.manifest import refuse_existing
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import read_trace, write_trace
from vocabtrim.pipeline.pair import open_pair
from vocabtrim.pipeline.resolve import looked_up
from vocabtrim.pipeline.traced_texts import (
    Advance,
    Asking,
    Traced,
    UnfinishedTrace,
    digest_of_texts,
)


@dataclass(frozen=True)
class TraceResult(Traced):
    """What tracing came to, for any draft vocabulary.

    Args:
        width: m, candidates kept at each position and depth.
        resolved: Open positions that were looked up.
    """

    width: int
    resolved: int

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"trace": asdict(self)}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        return [
            *self.heading("answers"),
            f"answers    any draft vocabulary, draft lengths up to {self.max_gamma}, "
            f"{self.width} candidates a position",
            *([f"resolved   {self.resolved:,} open positions"] if self.resolved else []),
        ]


def trace(
    asking: Asking,
    drafter: Path,
    output: Path,
    *,
    gamma: int,
    width: int = 32,
    resolve: Sequence[Path] = (),
    drafter_name: str | None = None,
    force: bool = False,
    progress: Advance | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TraceResult:
    """Trace the target's greedy answers and write the trace.

    Args:
        asking: What the target is asked; without `sampling`.
        drafter: Directory of the drafter, over every id that it has rows for.
        output: The trace to make.
        gamma: Longest draft to be replayed, at least 1.
        width: m, candidates kept.
        resolve: Counts and draft vocabularies for which no position is left open.
        drafter_name: As it is named in the result; its directory's by default.
        force: Replace `output`.
        progress: Called with (texts traced, texts in all).
        clock: Seconds since whenever.

    Raises:
        OutputExists: `output` is there, or another command began `OUT.part`.
        CalibrationError: A prompt cannot be used.
        DecodeError: A model cannot be used, or an option is out of range.
        TokenizerMismatch: Drafter and target have different tokenizers.
        TraceError: The draft length or the candidates are out of range, or the
            answers are sampled.
    """
    from vocabtrim.replay.trace import TracedRows, Tracer

    refuse_existing(output, force=force)
    if asking.sampling:
        raise TraceError("a greedy trace says nothing of sampled answers: use trace_sampled")
    answers, name = asking.answers(output), drafter_name or drafter.name
    pair = open_pair(asking.target, drafter, asking.dtype)
    texts = asking.texts(answers, pair.target)
    tracer = Tracer(
        pair.target, pair.drafter, max_gamma=gamma, width=width, tokenizer=pair.tokenizer
    )
    options = {"gamma": gamma, "max_new_tokens": asking.max_new_tokens}
    options |= {"width": width, "raw": asking.raw}
    facts = asking.facts(name, pair.cost)
    part = UnfinishedTrace(
        output,
        {"texts": digest_of_texts(texts), **options, **facts},
        write=lambda path, piece: write_trace(path, piece, inputs={}, options={}, facts={}),
        read=lambda path: read_trace(path)[0],
    )
    told = part.go_on(texts, tracer.trace, progress, clock)
    rows = [
        TracedRows(one.candidates, one.scores, one.target_rank, one.target_score)
        for one in part.pieces()
    ]
    whole = tracer.join(texts, rows)
    if resolve:
        whole = looked_up(whole, resolve, tracer)
    write_trace(output, whole, inputs={}, options=options, facts=facts, force=force)
    part.remove()
    answers.unlink()
    return TraceResult(
        output=str(output),
        target=asking.name,
        drafter=name,
        max_gamma=gamma,
        width=width,
        resolved=len(whole.above),
        **told,
    )
