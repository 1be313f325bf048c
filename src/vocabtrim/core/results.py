"""One run of decoding as every report shows it.

`eval`, `replay`, `bench` and `demo` write the same keys in the same order, so
that a reader, or a program, learns them once. A value that a run has no answer
to is null, never 0: autoregressive decoding has no acceptance rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from vocabtrim.core.metrics import AcceptCounts, StepCost, mbsu, relative_bytes, relative_cost


@dataclass(frozen=True)
class RunResult:
    """What one arm of a comparison came to.

    Args:
        target: Name of the target.
        drafter: Name of the drafter; None decodes autoregressively.
        family: The drafter's family.
        V: Ids of the target.
        K: Ids that can be drafted.
        gamma: Draft length.
        prompts: Prompts decoded.
        new_tokens: Tokens emitted, the first of each prompt included.
        cycles: Target passes after the prefill.
        accepted_histogram: [gamma + 1] cycles by accepted drafts.
        block_efficiency: tau, tokens per cycle.
        acceptance_rate: Accepted / drafted tokens.
        acceptance_by_position: [gamma] the same by position.
        c: Parameters of the drafter over those of the target.
        c_read: Bytes of a draft step over those of a target step.
        mbsu: tau / (c * gamma + 1).
        mbsu_read: tau / (c_read * gamma + 1).
        head_params: Parameters of the draft head.
        head_share: Its share of a draft step's bytes.
        head_reads_per_cycle: Times that it is read in a full cycle.
        memory_delta_bytes: Bytes of weights gained by trimming, or freed.
        drafter_params: Parameters of the drafter by its family's rule.
        target_params: Parameters of the target.
        tokens_per_second: Of decoding, prefill left out; median over repeats.
        noise: How far two measurements of the same arm lie apart, as a share.
        speedup: tokens_per_second over that of autoregressive decoding.
        lossless: Prompts by how they compare: identical, rounding, of.
        batch: Prompts decoded side by side.
        sampling: temperature, top_k, top_p and seed; None where decoding is greedy.
        domains: The same for each domain.
    """

    target: str
    drafter: str | None
    family: str | None
    V: int | None
    K: int | None
    gamma: int
    prompts: int
    new_tokens: int
    cycles: int | None
    accepted_histogram: Sequence[int] | None
    block_efficiency: float | None
    acceptance_rate: float | None
    acceptance_by_position: Sequence[float | None] | None
    c: float | None
    c_read: float | None
    mbsu: float | None
    mbsu_read: float | None
    head_params: int | None
    head_share: float | None
    head_reads_per_cycle: int | None
    memory_delta_bytes: int | None
    drafter_params: int | None
    target_params: int | None
    tokens_per_second: float | None
    noise: float | None
    speedup: float | None
    lossless: Mapping[str, int] | None
    batch: int = 1
    sampling: Mapping[str, float | int | None] | None = None
    domains: Mapping[str, RunResult] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the run with its keys in the order of the fields."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        document["domains"] = {name: run.to_json() for name, run in self.domains.items()}
        return document


@dataclass(frozen=True)
class Decoded:
    """What was counted of an arm, in all or in one domain.

    Args:
        prompts: Prompts decoded.
        new_tokens: Tokens emitted.
        counts: Cycles.
        tokens_per_second: None where nothing was timed.
        noise: None where no arm was measured twice.
        speedup: None without autoregressive decoding beside it.
        lossless: None where it was not checked.
    """

    prompts: int
    new_tokens: int
    counts: AcceptCounts
    tokens_per_second: float | None = None
    noise: float | None = None
    speedup: float | None = None
    lossless: Mapping[str, int] | None = None


@dataclass(frozen=True)
class ArmCost:
    """Which arm it is and what its steps cost.

    Args:
        target: Name of the target.
        target_cost: What a target step holds and reads.
        V: Ids of the target.
        drafter: Name of the drafter, None for autoregressive decoding.
        family: Its family.
        K: Ids that it can draft.
        drafter_cost: What a draft step holds and reads.
        memory_delta_bytes: Bytes of weights gained by trimming, or freed.
        batch: Prompts decoded side by side.
        sampling: How tokens were drawn; None where decoding is greedy.
    """

    target: str
    target_cost: StepCost
    V: int
    drafter: str | None = None
    family: str | None = None
    K: int | None = None
    drafter_cost: StepCost | None = None
    memory_delta_bytes: int | None = None
    batch: int = 1
    sampling: Mapping[str, float | int | None] | None = None

    def run(self, decoded: Decoded, domains: Mapping[str, Decoded] | None = None) -> RunResult:
        """Return the run that was decoded with this arm."""
        counts, cost = decoded.counts, self.drafter_cost
        gamma, tau = counts.gamma, counts.block_efficiency
        c = relative_cost(cost, self.target_cost) if cost else None
        c_read = relative_bytes(cost, self.target_cost, gamma) if cost else None
        return RunResult(
            target=self.target,
            drafter=self.drafter,
            family=self.family,
            V=self.V,
            K=self.K,
            gamma=gamma,
            prompts=decoded.prompts,
            new_tokens=decoded.new_tokens,
            cycles=counts.cycles,
            accepted_histogram=counts.accepted.tolist(),
            block_efficiency=tau,
            acceptance_rate=counts.acceptance_rate,
            acceptance_by_position=counts.acceptance_by_position,
            c=c,
            c_read=c_read,
            mbsu=None if tau is None else mbsu(tau, c or 0.0, gamma),
            mbsu_read=None if tau is None else mbsu(tau, c_read or 0.0, gamma),
            head_params=cost.head_params if cost else None,
            head_share=cost.head_share(gamma) if cost else None,
            head_reads_per_cycle=gamma if cost else None,
            memory_delta_bytes=self.memory_delta_bytes,
            drafter_params=cost.params if cost else None,
            target_params=self.target_cost.params,
            tokens_per_second=decoded.tokens_per_second,
            noise=decoded.noise,
            speedup=decoded.speedup,
            lossless=decoded.lossless,
            batch=self.batch,
            sampling=self.sampling,
            domains={name: self.run(part) for name, part in (domains or {}).items()},
        )


HEADINGS = (
    "drafter",
    "K",
    "γ",
    "τ",
    "accepted",
    "MBSU",
    "MBSU read",
    "head",
    "tok/s",
    "speed-up",
    "same text",
)


def run_lines(runs: Sequence[RunResult]) -> list[str]:
    """Return a table of runs for a reader, one line each."""
    rows = [HEADINGS, *(_cells(run) for run in runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(run: RunResult) -> tuple[str, ...]:
    same = run.lossless
    rounding = f" +{same['rounding']} rounding" if same and same["rounding"] else ""
    return (
        run.drafter or "none",
        "" if run.K is None else f"{run.K:,}",
        str(run.gamma),
        _number(run.block_efficiency, ".3f"),
        _number(run.acceptance_rate, ".1%"),
        _number(run.mbsu, ".3f"),
        _number(run.mbsu_read, ".3f"),
        _number(run.head_share, ".0%"),
        _number(run.tokens_per_second, ".1f"),
        _number(run.speedup, ".2f"),
        f"{same['identical']}/{same['of']}{rounding}" if same else "not checked",
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
