"""`vocabtrim plan`: which K and γ, or neither, on the machine that was measured.

Acceptance comes from traces (of sampled texts, in expectation; without a trace, as
a bound from counts alone), time from latencies (or, without any, from parameters,
as the source counts them).
Vocabularies are the first K ids of the order in which `select` takes them from
the counts. What is chosen at the smallest batch is then looked at from all
sides: larger batches, each domain alone, memory, and what parameters would say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.latency import Latency
from vocabtrim.core.latency_file import Latencies, read_latencies
from vocabtrim.core.metrics import mbsu
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.core.sampled_trace import SampledTrace, joined_sampled
from vocabtrim.core.sampled_trace_file import read_any_trace
from vocabtrim.core.trace import Trace, TraceError, joined
from vocabtrim.pipeline.planning import BatchPlan, Drift, PlannedPoint, PlanResult
from vocabtrim.pipeline.replay import nested_of
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.pipeline.sizes import check_order, ranked, sizes_known, sizes_to_compare
from vocabtrim.replay.plan import Plan, Point, bound, plan, point, surface
from vocabtrim.replay.replay import Replayed
from vocabtrim.replay.sampled import expected

PAIR_FACTS = ("target", "drafter", "cost")
"""What traces that are read as one have in common."""

LONGEST = 8
"""Longest draft of a bound, where none is named."""

BOUND = (
    "without a trace this is a bound, for a drafter that is never wrong inside its "
    "vocabulary: it can say that speculation does not pay, and nothing else"
)

PADDING = 0.01
"""Share of V by which a head may be padded beyond a tokenizer's ids, or another head."""


def plan_pair(
    traces: Sequence[Path],
    counts: Path,
    *,
    latency: Path | Latencies | None = None,
    sizes: Sequence[int] = (),
    gammas: Sequence[int] = (),
    exact: bool = False,
    weights: Mapping[str, float] | None = None,
) -> PlanResult:
    """Choose K and γ.

    Args:
        traces: Of one drafter; none for a bound.
        counts: Which ids a vocabulary of K takes.
        latency: What `bench --micro` or a bench on an engine wrote; None counts
            parameters, which a trace has.
        sizes: K, rounded up to a multiple of 64; powers of two by default. All
            rows are always among them.
        gammas: Draft lengths, at most the traces'; all of them by default.
        exact: Take `sizes` as they are.
        weights: Domain to how often its texts count, and its tokens where the
            counts name it too; each counts once without.

    Raises:
        ArtifactError: A file is not what it should be.
        LatencyError: The latencies are not what they should be.
        TraceError: There is neither latency nor cost, or a number is out of range.
        TokenizerMismatch: Files belong to different tokenizers.
        VocabError: A K is smaller than what must be kept.
    """
    measured = read_latencies(latency) if isinstance(latency, Path) else latency
    evidence = _evidence(traces, counts, measured)
    cost = evidence.cost or (None if measured is None else measured.cost)
    warnings = [] if evidence.trace is not None else [BOUND]
    weights = dict(weights or {})
    mix = evidence.mix(weights, warnings)
    if measured is None:
        if cost is None:
            raise TraceError(
                "there is nothing to take time from: give --latency, or a trace that knows "
                "its models' parameters"
            )
        measured = Latencies(*evidence.names, evidence.rows, cost, (_by_parameters(cost),), {})
    else:
        warnings += evidence.strangers(measured)
        _comparable(measured.batches)
    lengths = sorted(set(gammas)) or list(range(1, evidence.longest + 1))
    if lengths[0] < 1:
        raise TraceError(f"draft lengths must be 1 or more, found {lengths[0]}")
    replayed = evidence.replayed(evidence.sizes(sizes, exact=exact), lengths, weights, warnings)
    by_machine = latency is not None
    batches = []
    for one in measured.batches:
        points = surface(replayed.__getitem__, list(replayed), one, mix)
        # a bound is no measurement of acceptance, but time is still worth what it is worth
        margin = None if by_machine else 0.0
        found = plan(points, evidence.rows, one, margin=margin, bounds=evidence.trace is None)
        batches.append(_batch(found, one, cost, by_machine=by_machine))
    if by_machine:
        warnings += _beyond(measured.batches[0], replayed, lengths)
    chosen = batches[0]
    return PlanResult(
        target=measured.target,
        drafter=measured.drafter,
        V=evidence.vocab_size,
        head_rows=evidence.rows,
        prompts=0 if evidence.trace is None else len(evidence.trace.texts),
        tokens=evidence.tokens,
        acceptance=evidence.kind,
        time="latency" if by_machine else "parameters",
        batches=tuple(batches),
        by_mbsu=_by_mbsu(chosen.points),
        memory_delta_bytes=None if cost is None else cost.memory_delta(chosen.chosen.K),
        drift=_drift(evidence.trace, replayed, chosen, measured.batches[0]),
        conditions=measured.conditions,
        weights=weights,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What acceptance is taken from.

    Args:
        trace: Of one drafter; None for a bound.
        names: Of target and drafter, where a trace says.
        cost: Likewise.
        counts: Which ids a vocabulary of K takes.
        path: Of the counts.
        rows: Of the untrimmed head.
    """

    trace: Trace | SampledTrace | None
    names: tuple[str, str]
    cost: PairCost | None
    counts: TokenCounts
    path: Path
    rows: int

    @property
    def vocab_size(self) -> int:
        return self.counts.vocab_size if self.trace is None else self.trace.vocab_size

    @property
    def kind(self) -> str:
        """What a result calls it."""
        if self.trace is None:
            return "bound"
        return "sampled trace" if isinstance(self.trace, SampledTrace) else "trace"

    @property
    def longest(self) -> int:
        return LONGEST if self.trace is None else self.trace.max_gamma

    @property
    def tokens(self) -> int:
        if self.trace is None:
            return self.counts.n_tokens
        return sum(int(text.tokens.size) for text in self.trace.texts)

    def strangers(self, measured: Latencies) -> list[str]:
        """Say where the latencies are of something else than the trace."""
        # heads are padded beyond their tokenizer's ids, targets and drafters differently
        if measured.V is not None and abs(measured.V / self.vocab_size - 1) > PADDING:
            raise TraceError(
                f"the latencies are of a target with {measured.V} ids, the "
                f"{'counts' if self.trace is None else 'trace'} of one with {self.vocab_size}"
            )
        found = (measured.target, measured.drafter)
        if self.trace is None or found == self.names:
            return []
        return [
            f"latencies are of {found[1]} for {found[0]}, acceptance is of {self.names[1]} for "
            f"{self.names[0]}: they are taken for the same pair"
        ]

    def mix(self, weights: Mapping[str, float], warnings: list[str]) -> NDArray[np.float64] | None:
        """Return how often each text counts, [texts]; None where all count once."""
        if not weights:
            return None
        if self.trace is None:
            raise TraceError("weights are for the texts of a trace, and there is none")
        domains = {text.domain for text in self.trace.texts if text.domain}
        for name, weight in weights.items():
            if name not in domains:
                known = ", ".join(sorted(domains)) or "none"
                raise TraceError(f"no domain {name!r} to weight; the trace has: {known}")
            if not (np.isfinite(weight) and weight >= 0):
                raise TraceError(f"the weight of domain {name} must be 0 or more, found {weight}")
        if isinstance(self.trace, SampledTrace):
            warnings.append(
                "a trace of sampled texts has its order of ids: which are kept does not follow "
                "the weights"
            )
        elif strange := sorted(weights.keys() - self.counts.domains.keys()):
            warnings.append(
                f"{self.path.name} names no domain {', '.join(strange)}: which ids are kept does "
                "not follow its weight"
            )
        found = np.array([weights.get(text.domain, 1.0) for text in self.trace.texts])
        if not found.any():
            raise TraceError("all texts of the trace have weight 0")
        return found

    def sizes(self, asked: Sequence[int], *, exact: bool) -> list[int]:
        """Return the sizes to look at, all rows among them."""
        if isinstance(self.trace, SampledTrace):
            return sorted({*sizes_known(self.trace, asked, exact=exact), self.rows})
        kept = int(KeepIds().of(self.counts).size)
        return sizes_to_compare(asked, kept, self.rows, exact=exact)

    def replayed(
        self,
        sizes: Sequence[int],
        gammas: Sequence[int],
        weights: Mapping[str, float],
        warnings: list[str],
    ) -> dict[int, list[Replayed]]:
        """Return what decoding with each size comes to; say which sizes the trace leaves open."""
        if isinstance(self.trace, SampledTrace):
            whole = expected(self.trace, gammas)
            return {size: whole[size] for size in sizes}
        if self.trace is None:
            order, _ = ranked(self.counts)
            inside = np.cumsum(self.counts.counts[order])
            # of each document the first token is no cycle's, and may be outside
            firsts = self.counts.n_documents
            total = self.counts.n_tokens
            outside = {
                size: total - int(inside[min(size, inside.size) - 1]) - firsts for size in sizes
            }
            return {
                size: bound(total - firsts, max(count, 0), gammas)
                for size, count in outside.items()
            }
        counted = {name: one for name, one in weights.items() if name in self.counts.domains}
        nested, _ = nested_of(self.trace, self.path, counted)
        opened = {size: nested.open_at(size) for size in sizes}
        if most := max(opened.values()):
            at = [f"{size:,}" for size, count in opened.items() if count]
            warnings.append(
                f"up to {most:,} of {int(self.trace.ranked.sum()):,} positions are open at "
                f"K = {', '.join(at)} and taken as refused, which can only make these look worse; "
                "`trace --resolve COUNTS` looks them up"
            )
        return {size: nested.replay(size, gammas, refuse_open=True) for size in sizes}


def _evidence(traces: Sequence[Path], counts: Path, measured: Latencies | None) -> _Evidence:
    if not traces:
        read, _ = read_counts(counts)
        cost = None if measured is None else measured.cost
        rows = read.vocab_size if cost is None else cost.head_rows
        return _Evidence(None, ("", ""), None, read, counts, rows)
    found = [read_any_trace(path) for path in traces]
    facts = found[0][1].facts
    for path, (_, manifest) in zip(traces, found, strict=True):
        if differing := [
            name for name in PAIR_FACTS if manifest.facts.get(name) != facts.get(name)
        ]:
            name = differing[0]
            raise TraceError(
                f"{path} has {name} {manifest.facts.get(name)!r}, {traces[0]} has "
                f"{facts.get(name)!r}: a plan is for one target and one drafter"
            )
        if manifest.options.get("sampling") != found[0][1].options.get("sampling"):
            raise TraceError(
                f"the texts of {path} were sampled otherwise than those of {traces[0]}: a plan is "
                "for one way of sampling"
            )
    trace = _joined([one for one, _ in found])
    if isinstance(trace, SampledTrace):
        check_order(trace, counts)
    read, _ = read_counts(counts, tokenizer=trace.tokenizer)
    cost = PairCost.from_json(facts["cost"]) if "cost" in facts else None
    names = (str(facts.get("target", "")), str(facts.get("drafter", "")))
    return _Evidence(trace, names, cost, read, counts, trace.head_rows)


def _joined(traces: Sequence[Trace | SampledTrace]) -> Trace | SampledTrace:
    sampled = [one for one in traces if isinstance(one, SampledTrace)]
    if sampled and len(sampled) == len(traces):
        return joined_sampled(sampled)
    greedy = [one for one in traces if isinstance(one, Trace)]
    if sampled and greedy:
        raise TraceError("traces of greedy and of sampled texts cannot be read as one")
    return joined(greedy)


def _comparable(batches: Sequence[Latency]) -> None:
    """Refuse latencies that know one K only: by them every K would take the same time."""
    for one in batches:
        if len(one.draft) < 2:
            (size,) = one.draft
            raise TraceError(
                f"draft steps were timed for K = {size:,} only, so sizes cannot be compared; "
                "time two or more, with all rows among them"
            )


def _by_parameters(cost: PairCost) -> Latency:
    """Return latencies in target passes, as MBSU counts them: a draft step takes c of one."""
    sizes = sorted({1, cost.head_rows})
    return Latency(1, {size: cost.c(size) for size in sizes}, {1: 1.0}, 0.0)


def _batch(found: Plan, latency: Latency, cost: PairCost | None, *, by_machine: bool) -> BatchPlan:
    def shown(one: Point) -> PlannedPoint:
        c = None if cost is None else cost.c(one.K)
        c_read = None if cost is None else cost.c_read(one.K, one.gamma)
        tau = one.block_efficiency
        return PlannedPoint(
            K=one.K,
            gamma=one.gamma,
            block_efficiency=tau,
            tokens_per_second=one.tokens_per_second if by_machine else None,
            speedup=one.speedup,
            mbsu=None if c is None else mbsu(tau, c, one.gamma),
            mbsu_read=None if c_read is None else mbsu(tau, c_read, one.gamma),
            head_reads_per_cycle=1 if latency.one_step else one.gamma,
        )

    return BatchPlan(
        batch=latency.batch,
        advice=found.advice.value,
        best=shown(found.best),
        full=shown(found.full),
        chosen=shown(found.chosen),
        gain=found.gain,
        margin=found.margin,
        interval=found.interval,
        autoregressive=latency.batch / latency.token() if by_machine else None,
        points=tuple(shown(one) for one in found.points),
    )


def _by_mbsu(points: Sequence[PlannedPoint]) -> PlannedPoint | None:
    known = [one for one in points if one.mbsu is not None]
    return max(known, key=lambda one: (one.mbsu or 0.0, -one.K), default=None)


def _drift(
    trace: Trace | SampledTrace | None,
    replayed: Mapping[int, Sequence[Replayed]],
    chosen: BatchPlan,
    latency: Latency,
) -> tuple[Drift, ...]:
    """Return what the choice comes to if all traffic were of one domain, worst first."""
    if trace is None:
        return ()
    drifts = []
    for domain in sorted({text.domain for text in trace.texts if text.domain}):
        members = np.array([text.domain == domain for text in trace.texts])
        several = {size: [one.only(members) for one in runs] for size, runs in replayed.items()}
        if not several[chosen.full.K][0].pooled.cycles:
            continue
        points = {
            (size, one.gamma): point(size, one, latency)
            for size, runs in several.items()
            for one in runs
        }
        here = points[chosen.chosen.K, chosen.chosen.gamma]
        full = points[chosen.full.K, chosen.full.gamma]
        best = max(points.values(), key=lambda one: one.tokens_per_second)
        drifts.append(
            Drift(
                domain=domain,
                prompts=int(members.sum()),
                block_efficiency=here.block_efficiency,
                full_block_efficiency=points[chosen.full.K, here.gamma].block_efficiency,
                speedup=here.speedup,
                over_full=here.tokens_per_second / full.tokens_per_second,
                best_size=best.K,
                best_gamma=best.gamma,
                under_best=here.tokens_per_second / best.tokens_per_second,
            )
        )
    return tuple(sorted(drifts, key=lambda one: one.over_full))


def _beyond(latency: Latency, replayed: Mapping[int, object], gammas: Sequence[int]) -> list[str]:
    """Say which points lie beyond what was measured."""
    sizes, lengths = sorted(latency.draft), [tokens - 1 for tokens in latency.several]
    found: list[str] = []
    if min(replayed) < sizes[0] or max(replayed) > sizes[-1]:
        found.append(
            f"draft steps were timed for K = {sizes[0]:,} to {sizes[-1]:,}; beyond, time is "
            "the fitted line's"
        )
    if not lengths or gammas[0] < lengths[0] or gammas[-1] > lengths[-1]:
        known = ", ".join(str(one) for one in lengths) or "none"
        found.append(
            f"draft lengths were timed for {known}; others are interpolated from a pass of one "
            "token, or the fitted line's"
        )
    return found
