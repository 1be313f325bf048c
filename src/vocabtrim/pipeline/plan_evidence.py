"""What a plan takes acceptance from: traces, or counts alone.

Greedy traces answer exactly and for any K, traces of sampled texts in expectation
and for the K that they were made with, and counts bound what any drafter can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.latency_file import Latencies
from vocabtrim.core.manifest import Manifest
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.core.sampled_trace import SampledTrace, joined_sampled
from vocabtrim.core.sampled_trace_file import read_any_trace
from vocabtrim.core.trace import Trace, TraceError, joined
from vocabtrim.pipeline.replay import nested_of
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.pipeline.sizes import check_order, ranked, sizes_known, sizes_to_compare
from vocabtrim.replay.plan import bound
from vocabtrim.replay.replay import Replayed
from vocabtrim.replay.sampled import expected

PAIR_FACTS = ("target", "drafter", "cost")
"""What traces that are read as one have in common."""

LONGEST = 8
"""Longest draft of a bound, where none is named."""

PADDING = 0.01
"""Share of V by which a head may be padded beyond a tokenizer's ids, or another head."""


@dataclass(frozen=True, eq=False)
class PlanEvidence:
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
        """V of the tokenizer."""
        return self.counts.vocab_size if self.trace is None else self.trace.vocab_size

    @property
    def kind(self) -> str:
        """What a result calls it."""
        if self.trace is None:
            return "bound"
        return "sampled trace" if isinstance(self.trace, SampledTrace) else "trace"

    @property
    def longest(self) -> int:
        """Longest draft that is answered for."""
        return LONGEST if self.trace is None else self.trace.max_gamma

    @property
    def tokens(self) -> int:
        """New tokens of the traces, or tokens counted."""
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


def read_evidence(traces: Sequence[Path], counts: Path, measured: Latencies | None) -> PlanEvidence:
    """Read what acceptance is taken from.

    Args:
        traces: Of one drafter, all greedy or all sampled alike; none for a bound.
        counts: Which ids a vocabulary of K takes.
        measured: Latencies, which know the head's rows where no trace does.

    Raises:
        ArtifactError: A file is not what it should be.
        TraceError: The traces are of different pairs or kinds.
        TokenizerMismatch: Files belong to different tokenizers.
    """
    if not traces:
        read, _ = read_counts(counts)
        cost = None if measured is None else measured.cost
        rows = read.vocab_size if cost is None else cost.head_rows
        return PlanEvidence(None, ("", ""), None, read, counts, rows)
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
        if _sampling(manifest) != _sampling(found[0][1]):
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
    return PlanEvidence(trace, names, cost, read, counts, trace.head_rows)


def _sampling(manifest: Manifest) -> dict[str, Any]:
    """Return how the texts of a trace were sampled; another seed draws more of the same."""
    sampling = manifest.options.get("sampling") or {}
    return {name: value for name, value in sampling.items() if name != "seed"}


def _joined(traces: Sequence[Trace | SampledTrace]) -> Trace | SampledTrace:
    sampled = [one for one in traces if isinstance(one, SampledTrace)]
    if sampled and len(sampled) == len(traces):
        return joined_sampled(sampled)
    greedy = [one for one in traces if isinstance(one, Trace)]
    if sampled and greedy:
        raise TraceError("traces of greedy and of sampled texts cannot be read as one")
    return joined(greedy)
