"""What is refused before the traffic is read, which takes long.

Everything that trimming, checking, exporting and planning would refuse later is
asked of them now: whose tokenizer it is, what the engine takes, whether it takes the
drafter once it is trimmed (`rehearsal.py`), whether the converter is there, and
whether a plan can be made of traces and latencies, on counts that stand for any.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import CalibrationError, TokenizerMismatch
from vocabtrim.core.trace_file import read_trace
from vocabtrim.engines.base import Container, engine_named
from vocabtrim.pipeline.export_engine import allowed_cell
from vocabtrim.pipeline.export_source import ExportSource, open_source
from vocabtrim.pipeline.fitting.request import COUNTS, Fit
from vocabtrim.pipeline.gguf_converter import ready_converter
from vocabtrim.pipeline.plan import plan_pair
from vocabtrim.pipeline.rehearsal import rehearse
from vocabtrim.pipeline.trim import refuse_nested
from vocabtrim.sources.files import STDIN
from vocabtrim.tensors.locate_pair import locate_pair
from vocabtrim.tokens.tokenizer import Tokenizer


def look_ahead(asked: Fit, tokenizer: Tokenizer) -> ExportSource:
    """Open the drafter, and refuse now what could be refused at the end.

    Args:
        asked: What is asked for.
        tokenizer: That of the target.

    Raises:
        PluginError: There is no such engine, or no test has loaded such a drafter.
        CheckpointError: The drafter is of no known family, or damaged, or the
            engine does not take it trimmed.
        TokenizerMismatch: Drafter or traces have another tokenizer.
        CalibrationError: The traffic can be read only once, and K is chosen on it.
        ArtifactError: A trace is missing, damaged, or something else.
        LatencyError: The latencies are.
        TraceError: They cannot be read as one, or are of something else.
        OutputExists: The output lies inside the drafter, or around it.
        EnvironmentFailure: There is no converter, where one is needed.
    """
    path, target = locate_pair(asked.drafter, asked.target)
    refuse_nested(asked.output, path)
    source = open_source(path, asked.family)
    TokenizerMismatch.check(
        "the drafter has another tokenizer than the target",
        expected=tokenizer.fingerprint,
        found=source.tokenizer,
    )
    engine = engine_named(asked.engine)
    cell = allowed_cell(engine, source, unproven=asked.unproven)
    if cell.container is Container.GGUF and source.gguf is None:
        ready_converter(asked.converter)
    rehearse(engine, cell, source, target)
    if STDIN in asked.traffic and asked.holds_out:
        raise CalibrationError(
            "standard input can be read only once, and documents of it would be read again to "
            "choose K: give a file, or say K yourself (--top-k)"
        )
    _refuse_plan(asked, tokenizer)
    return source


def _refuse_plan(asked: Fit, tokenizer: Tokenizer) -> None:
    """Refuse traces and latencies of which no plan could be made, whatever the counts."""
    if asked.top_k is not None or not (asked.traces or asked.latency):
        return
    for path in asked.traces:
        trace, _ = read_trace(path)
        TokenizerMismatch.check(
            f"{path} is of another tokenizer than the target's",
            expected=tokenizer.fingerprint,
            found=trace.tokenizer,
        )
    once = np.ones(tokenizer.vocab_size, dtype=np.int64)
    counts = TokenCounts(once, once, 1, tokenizer.fingerprint)
    with tempfile.TemporaryDirectory() as place:
        stand_in = Path(place) / COUNTS
        write_counts(stand_in, counts, inputs={}, options={}, facts={})
        plan_pair(asked.traces, stand_in, latency=asked.latency, gammas=asked.gammas)
