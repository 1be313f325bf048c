"""`vocabtrim fit`: a drafter and traffic to what an engine serves, in one go.

count → select → trim → check → export, each by its own verb's function, with the
one thing decided that they leave to the user: K. What could be refused at the end
is refused at the beginning (`fitting/ahead.py`).

Everything is left in one directory (`fitting/place.py`). A fit that did not end is
continued by the next; counting, which is what takes long, goes on where it was, and
what has been counted is not counted again (`fitting/counted.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.manifest import atomic_file, file_hash
from vocabtrim.core.vocab import DraftVocab, rounded_rows
from vocabtrim.core.vocab_file import read_vocab, write_vocab
from vocabtrim.engines.base import Container, cell_of, engine_named
from vocabtrim.pipeline.appraisal import Appraisal, appraise
from vocabtrim.pipeline.check import check
from vocabtrim.pipeline.counting.identities import tokenizer_identity
from vocabtrim.pipeline.counting.run import Progress
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.export_source import open_source
from vocabtrim.pipeline.fitting.ahead import look_ahead
from vocabtrim.pipeline.fitting.choice import SizeChoice, asked_for, entering, kept, smallest
from vocabtrim.pipeline.fitting.counted import counted
from vocabtrim.pipeline.fitting.place import begin
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
from vocabtrim.pipeline.fitting.result import FitResult, Made
from vocabtrim.pipeline.fitting.sample import hold_out
from vocabtrim.pipeline.inspect import inspect
from vocabtrim.pipeline.plan import plan_pair
from vocabtrim.pipeline.trim import trim
from vocabtrim.replay.plan import Advice
from vocabtrim.rules.base import Evidence, take
from vocabtrim.tensors.locate import locate_tokenizer
from vocabtrim.tensors.locate_pair import locate_pair
from vocabtrim.tokens.tokenizer import Tokenizer

__all__ = ["Fit", "fit"]


def fit(
    asked: Fit,
    *,
    force: bool = False,
    restart: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> FitResult:
    """Make of a drafter and traffic what an engine serves.

    Args:
        asked: What from what.
        force: Replace what another fit left, or one that ended.
        restart: Count anew, whatever an earlier fit had counted.
        progress: Told how far counting is.
        notice: Told what a user should know at once, as a sentence.

    Returns:
        What was made; nothing was where trimming does not pay, and nothing was
        exported where `check` found a fault.

    Raises:
        PluginError: There is no such engine, or it is not known to take such a
            drafter.
        CheckpointError: Drafter or target cannot be used.
        TokenizerMismatch: They have different tokenizers, or a trace has.
        CalibrationError: The traffic cannot be used, or is too little.
        ArtifactError: A trace cannot be read.
        TraceError: Traces and latencies cannot be planned with.
        LatencyError: Likewise.
        VocabError: `top_k` has no room for what must be kept, or the head has fewer
            rows.
        OutputExists: The directory is another's, or there and `force` is not given.
        EnvironmentFailure: The disk is full, or the converter cannot be run.
    """
    tokenizer_path = locate_tokenizer(asked.tokenizer or asked.target)
    tokenizer = Tokenizer.open(tokenizer_path)
    source = look_ahead(asked, tokenizer)
    looked = inspect(asked.drafter, target=asked.target, family=asked.family)
    begin(asked, tokenizer_identity(tokenizer_path), force=force)
    traffic = counted(asked, tokenizer_path, restart=restart, progress=progress, notice=notice)
    counts, _ = read_counts(asked.output / COUNTS)
    choice, warnings = _choose(asked, counts, source.vocab, tokenizer)
    choice, appraisal = _select(asked, counts, source.vocab, choice, tokenizer)
    result = FitResult(
        output=str(asked.output),
        V=counts.vocab_size,
        rows=source.vocab.size,
        bytes_lines=tuple(looked.lines()),
        counted=traffic,
        choice=choice,
        counts=appraisal,
        made=_make(asked, choice.gamma) if choice.trims else None,
        warnings=warnings,
    )
    with atomic_file(asked.output / REPORT, force=True) as temporary:
        document = json.dumps(result.to_json(), ensure_ascii=False, indent=2)
        temporary.write_text(document + "\n", encoding="utf-8")
    return result


def _choose(
    asked: Fit, counts: TokenCounts, held: DraftVocab, tokenizer: Tokenizer
) -> tuple[SizeChoice, tuple[str, ...]]:
    """Return K with its reason: asked for, planned, or the smallest that loses little."""
    if asked.top_k is not None:
        return asked_for(asked.top_k, Evidence(counts), held, asked.gamma), ()
    warnings: tuple[str, ...] = ()
    if asked.traces or asked.latency is not None:
        planned = plan_pair(
            asked.traces, asked.output / COUNTS, latency=asked.latency, gammas=asked.gammas
        )
        advice, warnings = Advice(planned.choice.advice), planned.warnings
        # bounds can say that speculation does not pay, and not which K does
        if asked.traces or advice is Advice.DO_NOT_SPECULATE:
            trims = advice is Advice.TRIM
            best = planned.choice.full if advice is Advice.DO_NOT_TRIM else planned.choice.best
            return SizeChoice(best.K, best.gamma, planned.verdict(), trims), warnings
    traffic = hold_out(
        asked.traffic,
        counts,
        tokenizer,
        role=asked.role,
        cap_per_document=asked.cap_per_document,
        leave_out=(asked.output,),
    )
    return smallest(traffic, held, asked.gamma), warnings


def _select(
    asked: Fit, counts: TokenCounts, held: DraftVocab, choice: SizeChoice, tokenizer: Tokenizer
) -> tuple[SizeChoice, Appraisal]:
    """Write the draft vocabulary, and say what the counts tell of it.

    Returns:
        The choice with the K that was written: a head may be padded beyond the ids
        that there are, and a plan for all of its rows counts the padding.
    """
    evidence, must_keep = Evidence(counts), kept(counts, held)
    order = entering(evidence, held)
    # what is seen in documents held out alone must be kept too
    least = rounded_rows(must_keep.size, order.size)
    vocab = take(order, max(choice.K, least), must_keep, evidence)
    appraisal = appraise(vocab, evidence, must_keep, tokenizer=tokenizer)
    path = asked.output / COUNTS
    write_vocab(
        asked.output / VOCAB,
        vocab,
        inputs={str(path): file_hash(path)},
        options={"rule": f"TopK(k={vocab.size})", "of": held.size},
        facts=appraisal.facts() | {"reason": choice.reason},
        force=True,
    )
    return replace(choice, K=vocab.size), appraisal


def _make(asked: Fit, gamma: int) -> Made:
    """Trim, check and export."""
    vocab, manifest = read_vocab(asked.output / VOCAB)
    drafter, beside = locate_pair(asked.drafter, asked.target)
    trimmed = asked.output / (TRIMMED_FILE if drafter.is_file() else TRIMMED)
    made = trim(
        drafter,
        vocab,
        trimmed,
        target=beside,
        family=asked.family,
        vocab_manifest=manifest,
        force=True,
    )
    engine = engine_named(asked.engine)
    checked = check(str(trimmed), target=asked.target, engines=[engine.name])
    if checked.failed(strict=False):
        return Made(made, checked, None)
    source = open_source(trimmed, asked.family)
    cell = cell_of(engine, source.family, source.containers)
    if cell is None:
        raise CheckpointError(f"{engine.name} takes no drafters of its family", path=trimmed)
    name = EXPORT_FILE if cell.container is Container.GGUF else EXPORT
    exported = export(
        str(trimmed),
        engine.name,
        asked.output / name.format(engine.name),
        target=asked.target,
        unproven=asked.unproven,
        converter=asked.converter,
        gamma=gamma,
        family=asked.family,
        force=True,
    )
    return Made(made, checked, exported)
