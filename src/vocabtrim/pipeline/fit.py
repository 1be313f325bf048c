"""`vocabtrim fit`: a drafter and traffic to what an engine serves, in one go.

count → select → trim → check → export, each by its own verb's function, with the
one thing decided that they leave to the user: K. What could be refused at the end
is refused at the beginning: the engine, the family, the converter, tokenizers.

Everything is left in one directory. A fit that did not end is continued by the
next; counting, which is what takes long, goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import CheckpointError, TokenizerMismatch
from vocabtrim.core.manifest import (
    DIRECTORY_MANIFEST,
    Manifest,
    atomic_file,
    file_hash,
    refuse_existing,
)
from vocabtrim.core.vocab import DraftVocab, rounded_rows
from vocabtrim.core.vocab_file import read_vocab, write_vocab
from vocabtrim.engines.base import GAMMA, Container, Engine, cell_of, engine_named
from vocabtrim.pipeline.appraisal import Appraisal, appraise
from vocabtrim.pipeline.check import check
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.counting.run import Progress
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.export_engine import allowed_cell
from vocabtrim.pipeline.export_source import ExportSource, open_source
from vocabtrim.pipeline.fitting.choice import SizeChoice, entering, smallest
from vocabtrim.pipeline.fitting.result import FitResult, Made
from vocabtrim.pipeline.fitting.sample import hold_out
from vocabtrim.pipeline.gguf_converter import converter_command
from vocabtrim.pipeline.inspect import inspect
from vocabtrim.pipeline.plan import plan_pair
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.pipeline.trim import trim
from vocabtrim.replay.plan import Advice
from vocabtrim.rules.base import Evidence
from vocabtrim.tensors.locate import locate, locate_tokenizer
from vocabtrim.tensors.locate_pair import gguf_drafter, locate_pair
from vocabtrim.tokens.tokenizer import Tokenizer

KIND = "fit"
COUNTS, VOCAB, REPORT = "counts.safetensors", "vocab.safetensors", "fit.json"


@dataclass(frozen=True)
class Fit:
    """What is asked for.

    Args:
        drafter: A directory, a GGUF file, a built-in or hub name.
        target: The same of the target.
        traffic: Files, directories, patterns, URLs, as for `count`.
        engine: Name of the engine.
        output: The directory to make.
        gamma: Draft length that K is chosen for, where no plan chooses both.
        top_k: K, where it is not to be chosen; rounded up to a multiple of 64.
        traces: What `trace` wrote for this pair.
        latency: What `bench --micro`, or a bench on the engine, wrote.
        tokenizer: Where the target's tokenizer is, if not beside it.
        family: Which family is meant, where a directory is of several.
        role: Whose turns of a conversation count.
        cap_per_document: An id counts at most so often in one document.
        unproven: Write also what no test has loaded into the engine.
        converter: For llama.cpp, the command that runs its converter.
    """

    drafter: str
    target: str
    traffic: Sequence[str]
    engine: str
    output: Path
    gamma: int = GAMMA
    top_k: int | None = None
    traces: Sequence[Path] = ()
    latency: Path | None = None
    tokenizer: str | None = None
    family: str | None = None
    role: str = "assistant"
    cap_per_document: int | None = None
    unproven: bool = False
    converter: str | None = None

    def options(self) -> dict[str, Any]:
        """Return what decides the result, as a document."""
        return {
            "drafter": self.drafter,
            "target": self.target,
            "traffic": list(self.traffic),
            "engine": self.engine,
            "gamma": self.gamma,
            "top_k": self.top_k,
            "traces": [str(path) for path in self.traces],
            "latency": None if self.latency is None else str(self.latency),
            "role": self.role,
            "cap_per_document": self.cap_per_document,
        }


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
        force: Replace a directory that vocabtrim wrote.
        restart: Forget how far an interrupted fit had counted.
        progress: Told how far counting is.
        notice: Told what a user should know at once, as a sentence.

    Returns:
        What was made; nothing was where trimming does not pay, and nothing was
        exported where `check` found a fault.

    Raises:
        PluginError: There is no such engine, or it is not known to take such a
            drafter.
        CheckpointError: Drafter or target cannot be used.
        TokenizerMismatch: They have different tokenizers.
        CalibrationError: The traffic cannot be used, or is too little.
        VocabError: `top_k` has no room for what must be kept.
        OutputExists: The directory is there and `force` is not given.
        EnvironmentFailure: The disk is full, or the converter cannot be run.
    """
    tokenizer_path = locate_tokenizer(asked.tokenizer or asked.target)
    tokenizer = Tokenizer.open(tokenizer_path)
    source = _looked_at(asked, tokenizer)
    looked = inspect(asked.drafter, target=asked.target, family=asked.family)
    _begin(asked, force=force)
    counted = count(
        asked.traffic,
        tokenizer_path,
        asked.output / COUNTS,
        role=asked.role,
        cap_per_document=asked.cap_per_document,
        force=True,
        restart=restart,
        progress=progress,
        notice=notice,
    )
    counts, _ = read_counts(asked.output / COUNTS)
    choice, warnings = _choose(asked, counts, source.vocab, tokenizer)
    appraisal = _select(asked, counts, source.vocab, choice, tokenizer)
    result = FitResult(
        output=str(asked.output),
        V=counts.vocab_size,
        rows=source.vocab.size,
        bytes_lines=tuple(looked.lines()),
        counted=counted,
        choice=choice,
        counts=appraisal,
        made=_make(asked, choice.gamma) if choice.trims else None,
        warnings=warnings,
    )
    with atomic_file(asked.output / REPORT, force=True) as temporary:
        document = json.dumps(result.to_json(), ensure_ascii=False, indent=2)
        temporary.write_text(document + "\n", encoding="utf-8")
    return result


def _looked_at(asked: Fit, tokenizer: Tokenizer) -> ExportSource:
    """Open the drafter, and refuse now what could be refused at the end."""
    source = open_source(gguf_drafter(asked.drafter) or locate(asked.drafter))
    if source.tokenizer not in (None, tokenizer.fingerprint):
        raise TokenizerMismatch(
            "the drafter has another tokenizer than the target",
            expected=tokenizer.fingerprint,
            found=source.tokenizer,
        )
    cell = allowed_cell(engine_named(asked.engine), source, unproven=asked.unproven)
    if cell.container is Container.GGUF and source.gguf is None:
        converter_command(asked.converter)
    return source


def _begin(asked: Fit, *, force: bool) -> None:
    """Make the directory, or find the one of a fit that did not end."""
    document = Manifest(KIND, 0, None, options=asked.options())
    path = asked.output / DIRECTORY_MANIFEST
    begun = (
        path.is_file()
        and Manifest.from_json(path.read_text(encoding="utf-8"), path).kind == KIND
        and not (asked.output / REPORT).exists()
    )
    if not begun:
        refuse_existing(asked.output, force=force)
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / REPORT).unlink(missing_ok=True)
    with atomic_file(path, force=True) as temporary:
        temporary.write_text(document.to_json() + "\n", encoding="utf-8")


def _choose(
    asked: Fit, counts: TokenCounts, held: DraftVocab, tokenizer: Tokenizer
) -> tuple[SizeChoice, tuple[str, ...]]:
    """Return K with its reason: asked for, planned, or the smallest that loses little."""
    if asked.top_k is not None:
        rows = rounded_rows(asked.top_k, held.size)
        return SizeChoice(rows, asked.gamma, "as asked for"), ()
    if asked.traces or asked.latency is not None:
        planned = plan_pair(asked.traces, asked.output / COUNTS, latency=asked.latency)
        best, advice = planned.choice.best, Advice(planned.choice.advice)
        trims = advice is Advice.TRIM
        return SizeChoice(best.K, best.gamma, planned.verdict(), trims), planned.warnings
    traffic = hold_out(
        asked.traffic,
        counts,
        tokenizer,
        role=asked.role,
        cap_per_document=asked.cap_per_document,
    )
    return smallest(traffic, held, asked.gamma), ()


def _select(
    asked: Fit, counts: TokenCounts, held: DraftVocab, choice: SizeChoice, tokenizer: Tokenizer
) -> Appraisal:
    """Write the draft vocabulary of K ids, and say what the counts tell of it."""
    evidence = Evidence(counts)
    ids = entering(evidence, held)[: choice.K]
    vocab = DraftVocab.from_ids(ids, counts.vocab_size, counts.tokenizer)
    must_keep = KeepIds().of(counts)
    appraisal = appraise(vocab, evidence, must_keep, tokenizer=tokenizer)
    counted = asked.output / COUNTS
    write_vocab(
        asked.output / VOCAB,
        vocab,
        inputs={str(counted): file_hash(counted)},
        options={"rule": f"TopK(k={choice.K})", "of": held.size},
        facts=appraisal.facts() | {"reason": choice.reason},
        force=True,
    )
    return appraisal


def _make(asked: Fit, gamma: int) -> Made:
    """Trim, check and export."""
    vocab, manifest = read_vocab(asked.output / VOCAB)
    drafter, beside = locate_pair(asked.drafter, asked.target)
    trimmed = asked.output / ("trimmed.gguf" if drafter.is_file() else "trimmed")
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
    exported = export(
        str(trimmed),
        engine.name,
        asked.output / _export_name(engine, trimmed),
        target=asked.target,
        unproven=asked.unproven,
        converter=asked.converter,
        gamma=gamma,
        force=True,
    )
    return Made(made, checked, exported)


def _export_name(engine: Engine, trimmed: Path) -> str:
    source = open_source(trimmed)
    cell = cell_of(engine, source.family, source.containers)
    if cell is None:
        raise CheckpointError(f"{engine.name} takes no drafters of its family", path=trimmed)
    return f"for-{engine.name}" + (".gguf" if cell.container is Container.GGUF else "")
