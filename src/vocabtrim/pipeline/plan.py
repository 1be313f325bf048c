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
from pathlib import Path

import numpy as np

from vocabtrim.core.latency import Latency
from vocabtrim.core.latency_file import Latencies, read_latencies
from vocabtrim.core.metrics import mbsu
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.trace import Trace, TraceError
from vocabtrim.pipeline.plan_evidence import read_evidence
from vocabtrim.pipeline.planning import BatchPlan, Drift, PlannedPoint, PlanResult
from vocabtrim.replay.plan import Plan, Point, plan, point, surface
from vocabtrim.replay.replay import Replayed

BOUND = (
    "without a trace this is a bound, for a drafter that is never wrong inside its "
    "vocabulary: it can say that speculation does not pay, and nothing else"
)


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
    evidence = read_evidence(traces, counts, measured)
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
