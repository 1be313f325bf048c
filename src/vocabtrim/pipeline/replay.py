"""`vocabtrim replay`: a trace and vocabularies to what decoding would come to.

No model is loaded. Vocabularies are files, or the first K ids of the order in
which `select` takes ids from counts (what must be kept first, then by
frequency), for as many K as are asked for. Intervals are over prompts.

A trace of sampled texts answers in expectation, for the vocabularies that it was
made with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import VocabError
from vocabtrim.core.metrics import block_efficiency_interval
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.sampled_trace_file import read_any_trace
from vocabtrim.core.trace import Trace, TracedText, TraceError
from vocabtrim.core.vocab import rounded_rows
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.pipeline.sizes import check_order, known_sizes, ranked, sizes_known
from vocabtrim.replay.replay import Nested, Replayed, accepted, replay, runs, walk
from vocabtrim.replay.sampled import expected

RESAMPLES = 1000


@dataclass(frozen=True)
class ReplayedRun:
    """One vocabulary and draft length.

    Args:
        vocab: What names the vocabulary: a file, or its K.
        K: Ids in it.
        gamma: Draft length.
        cycles: Target passes after the prefill; of sampled texts, expected ones.
        accepted_histogram: [γ + 1] cycles that accepted j drafts.
        block_efficiency: Tokens a cycle; None where there was no cycle.
        interval: 95 % of it, over prompts.
        acceptance_rate: Accepted drafts over drafts.
        acceptance_by_position: [γ] of cycles that drafted a j-th token.
        loss: Share of block efficiency lost against all rows.
        domains: Block efficiency of each domain.
        domain_loss: Share of it that each domain loses against all rows, worst
            first, whether the vocabulary was calibrated on it or not.
    """

    vocab: str
    K: int
    gamma: int
    cycles: float
    accepted_histogram: tuple[float, ...]
    block_efficiency: float | None
    interval: tuple[float, float] | None
    acceptance_rate: float | None
    acceptance_by_position: tuple[float | None, ...]
    loss: float | None
    domains: dict[str, float | None]
    domain_loss: dict[str, float | None]

    def losses(self) -> str:
        """Return the losses by domain as a line, worst first."""
        shown = [
            f"{name} {-loss:+.1%}" for name, loss in self.domain_loss.items() if loss is not None
        ]
        return ", ".join(shown).replace("-0.0%", "+0.0%")


@dataclass(frozen=True)
class ReplayResult:
    """All vocabularies and draft lengths.

    Args:
        trace: The file.
        target: Name of the target.
        drafter: Name of the drafter.
        V: Ids of the tokenizer.
        prompts: Texts of the trace.
        runs: By vocabulary, then draft length.
        sampling: How the texts were sampled; None for greedy ones.
    """

    trace: str
    target: str
    drafter: str
    V: int
    prompts: int
    runs: tuple[ReplayedRun, ...]
    sampling: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"replay": asdict(self)}

    def lines(self) -> list[str]:
        """Return a table: a row a vocabulary, a column a draft length."""
        gammas = sorted({run.gamma for run in self.runs})
        rows: dict[str, dict[int, ReplayedRun]] = {}
        for run in self.runs:
            rows.setdefault(run.vocab, {})[run.gamma] = run
        width = max(len("vocabulary"), *map(len, rows))
        head = f"{'vocabulary':<{width}} {'K':>8}" + "".join(f"  γ = {one:<9}" for one in gammas)
        table = [
            f"{name:<{width}} {next(iter(cells.values())).K:>8,}"
            + "".join(f"  {_cell(cells[gamma]):<13}" for gamma in gammas)
            for name, cells in rows.items()
        ]
        longest = [cells[gammas[-1]] for cells in rows.values()]
        losses = [f"{run.vocab:<{width}}  {run.losses()}" for run in longest if run.domain_loss]
        title = f"against all rows at γ = {gammas[-1]}, worst domain first:"
        what, how = "block efficiency", ""
        if self.sampling is not None:
            given = ((name, self.sampling.get(name)) for name in ("temperature", "top_k", "top_p"))
            how = "".join(f", {name} {value:g}" for name, value in given if value is not None)
            what = "expected block efficiency"
        return [
            f"{what} of {self.drafter} for {self.target}, {self.prompts:,} prompts{how}",
            *(line.rstrip() for line in (head, *table)),
            *(["", title, *losses] if losses else []),
        ]


def replay_trace(
    path: Path,
    *,
    gammas: Sequence[int],
    vocabs: Sequence[Path] = (),
    counts: Path | None = None,
    sizes: Sequence[int] = (),
    exact: bool = False,
    seed: int = 0,
) -> ReplayResult:
    """Return what decoding would come to.

    Args:
        path: A trace.
        gammas: Draft lengths, at most the trace's.
        vocabs: Files of draft vocabularies.
        counts: Counts from which `sizes` are chosen.
        sizes: K, rounded up to a multiple of 64.
        exact: Take `sizes` as they are.
        seed: Of the intervals.

    Raises:
        ArtifactError: A file is not what it should be.
        TraceError: There is nothing to replay, or a draft length is out of range.
        TokenizerMismatch: Files belong to different tokenizers.
        VocabError: A K is smaller than what must be kept.
        OpenPositions: The trace's candidates do not decide a vocabulary.
    """
    trace, manifest = read_any_trace(path)
    if not gammas:
        raise TraceError("say what to replay: there is no draft length")
    if isinstance(trace, SampledTrace):
        if vocabs:
            raise TraceError(
                f"{path} is of sampled texts and answers for the sizes that it was made with "
                f"({known_sizes(trace)}), not for {vocabs[0]}"
            )
        check_order(trace, counts)
        chosen = sizes_known(trace, sizes, exact=exact)
        several = expected(trace, gammas)
        name = str(manifest.facts.get("counts", "order"))
        whole = several[trace.head_rows]
        found = [(f"{name} top {size}", size, several[size]) for size in chosen]
    else:
        found = _exact(trace, gammas, vocabs, counts, sizes, exact=exact)
        every = np.ones(trace.vocab_size, dtype=np.bool_)
        whole = walk(trace, runs(trace, accepted(trace, every)), gammas)
    made = [
        _run(trace.texts, (name, K), one, full, seed)
        for name, K, results in found
        for one, full in zip(results, whole, strict=True)
    ]
    return ReplayResult(
        str(path),
        str(manifest.facts.get("target", "")),
        str(manifest.facts.get("drafter", "")),
        trace.vocab_size,
        len(trace.texts),
        tuple(made),
        manifest.options.get("sampling"),
    )


def _exact(
    trace: Trace,
    gammas: Sequence[int],
    vocabs: Sequence[Path],
    counts: Path | None,
    sizes: Sequence[int],
    *,
    exact: bool,
) -> list[tuple[str, int, list[Replayed]]]:
    """Return each vocabulary's name and K, and what greedy decoding with it comes to."""
    if not (vocabs or sizes):
        raise TraceError("say what to replay: draft vocabularies, or counts and sizes; and gammas")
    if sizes and counts is None:
        raise TraceError("sizes need counts to choose ids from: give --counts")
    found: list[tuple[str, int, list[Replayed]]] = []
    for file in vocabs:
        vocab, _ = read_vocab(file)
        found.append((str(file), vocab.size, replay(trace, vocab.over(trace.vocab_size), gammas)))
    if counts is not None:
        nested, kept = nested_of(trace, counts)
        for size in sizes:
            K = min(size, trace.vocab_size) if exact else rounded_rows(size, trace.vocab_size)
            if kept > K:
                raise VocabError(f"K = {K} has no room for the {kept} ids that must be kept")
            found.append((f"{counts.name} top {K}", K, nested.replay(K, gammas)))
    return found


def nested_of(
    trace: Trace, counts: Path, weights: Mapping[str, float] | None = None
) -> tuple[Nested, int]:
    """Return the vocabularies that `select` takes from counts, and how many ids they must keep.

    Ids that the drafter's head has no rows for come last.

    Args:
        trace: Of the drafter.
        counts: The file.
        weights: Domain of the counts to factor, as `select` takes them.

    Raises:
        ArtifactError: The file is not what it should be.
        TokenizerMismatch: Counts and trace belong to different tokenizers.
        PluginError: A weight is negative or names no domain of the counts.
    """
    read, _ = read_counts(counts, tokenizer=trace.tokenizer)
    order, kept = ranked(read, weights)
    return Nested(trace, trace.order(order)), kept


def _run(
    texts: Sequence[TracedText], vocab: tuple[str, int], one: Replayed, whole: Replayed, seed: int
) -> ReplayedRun:
    counts = one.pooled
    domains = sorted({text.domain for text in texts if text.domain})
    members = {name: np.array([text.domain == name for text in texts]) for name in domains}
    tau = {domain: one.of(held).block_efficiency for domain, held in members.items()}
    losses = {
        domain: _loss(tau[domain], whole.of(held).block_efficiency)
        for domain, held in members.items()
    }
    return ReplayedRun(
        vocab=vocab[0],
        K=vocab[1],
        gamma=one.gamma,
        cycles=counts.cycles,
        accepted_histogram=tuple(counts.accepted.tolist()),
        block_efficiency=counts.block_efficiency,
        interval=_interval(one, np.random.default_rng(seed)),
        acceptance_rate=counts.acceptance_rate,
        acceptance_by_position=tuple(counts.acceptance_by_position),
        loss=_loss(counts.block_efficiency, whole.pooled.block_efficiency),
        domains=tau,
        domain_loss=dict(sorted(losses.items(), key=lambda pair: -(pair[1] or 0.0))),
    )


def _loss(tau: float | None, of_all_rows: float | None) -> float | None:
    return None if tau is None or of_all_rows is None else 1 - tau / of_all_rows


def _interval(one: Replayed, generator: np.random.Generator) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of `metrics.block_efficiency_interval`."""
    if not one.pooled.cycles:
        return None
    return block_efficiency_interval(one.per_text, generator, resamples=RESAMPLES)


def _cell(run: ReplayedRun) -> str:
    if run.block_efficiency is None or run.interval is None:
        return "–"
    return f"{run.block_efficiency:.3f} ±{(run.interval[1] - run.interval[0]) / 2:.3f}"
