"""What a plan came to: the surface, the choice, and what speaks for and against it.

Points are tokens per second over autoregressive decoding at the same batch size;
where no machine was measured they are in target passes, by parameters, and no
tokens per second are claimed. A bound is said to be one in every line that could
be taken for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vocabtrim.replay.plan import Advice

WIDTH = 11
"""Columns of the labels."""


@dataclass(frozen=True)
class PlannedPoint:
    """A K and γ.

    Args:
        K: Rows of the head.
        gamma: Draft length.
        block_efficiency: Tokens a cycle.
        tokens_per_second: Of the whole batch; None where no machine was measured.
        speedup: Over autoregressive decoding.
        mbsu: By parameters; None where they are not known.
        mbsu_read: By bytes read.
        head_reads_per_cycle: Times that the head is read in a full cycle.
    """

    K: int
    gamma: int
    block_efficiency: float
    tokens_per_second: float | None
    speedup: float
    mbsu: float | None
    mbsu_read: float | None
    head_reads_per_cycle: int


@dataclass(frozen=True)
class BatchPlan:
    """The surface at one batch size.

    Args:
        batch: Texts side by side.
        advice: What to do: an `Advice` by value.
        best: The fastest point.
        full: The fastest with all rows.
        chosen: What the advice comes to: `full` where trimming does not pay.
        gain: The best over the full one.
        margin: Gain below which points count as equal.
        interval: Of the gain, 95 % over prompts; None where it is not known.
        autoregressive: Tokens per second without speculation.
        points: All, by K and γ.
    """

    batch: int
    advice: str
    best: PlannedPoint
    full: PlannedPoint
    chosen: PlannedPoint
    gain: float
    margin: float
    interval: tuple[float, float] | None
    autoregressive: float | None
    points: tuple[PlannedPoint, ...]


@dataclass(frozen=True)
class Drift:
    """The choice, if all traffic were of one domain.

    Args:
        domain: Its name.
        prompts: Texts of it in the traces.
        block_efficiency: There, with the choice.
        full_block_efficiency: With all rows at the same draft length.
        speedup: Over autoregressive decoding.
        over_full: Over all rows at their best draft length for all traffic.
        best_size: What would be best for this domain alone.
        best_gamma: Likewise.
        under_best: The choice's tokens per second over that.
    """

    domain: str
    prompts: int
    block_efficiency: float
    full_block_efficiency: float
    speedup: float
    over_full: float
    best_size: int
    best_gamma: int
    under_best: float


@dataclass(frozen=True)
class PlanResult:
    """A plan.

    Args:
        target: Name of the target.
        drafter: Name of the drafter.
        V: Ids of the tokenizer.
        head_rows: Rows of the untrimmed head.
        prompts: Texts of the traces; 0 for a bound.
        tokens: New tokens of the traces, or tokens counted.
        acceptance: "trace", "sampled trace" or "bound".
        time: "latency" or "parameters".
        batches: By batch size; the choice is the first one's.
        by_mbsu: What MBSU would choose.
        memory_delta_bytes: Bytes of weights that trimming to the choice adds.
        drift: By domain, worst first.
        conditions: Of the measurement.
        weights: Domain to how often it counts.
        warnings: What a reader should know.
    """

    target: str
    drafter: str
    V: int
    head_rows: int
    prompts: int
    tokens: int
    acceptance: str
    time: str
    batches: tuple[BatchPlan, ...]
    by_mbsu: PlannedPoint | None
    memory_delta_bytes: int | None
    drift: tuple[Drift, ...]
    conditions: Mapping[str, Any]
    weights: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def choice(self) -> BatchPlan:
        """The plan at the smallest batch size."""
        return self.batches[0]

    @property
    def trimming_stops_at(self) -> int | None:
        """The smallest batch size measured at which trimming does not pay."""
        return self._first_without({Advice.TRIM})

    @property
    def speculation_stops_at(self) -> int | None:
        """The smallest batch size measured at which speculation does not pay."""
        return self._first_without({Advice.TRIM, Advice.DO_NOT_TRIM})

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        stops = {
            "trimming_stops_at": self.trimming_stops_at,
            "speculation_stops_at": self.speculation_stops_at,
        }
        return {"plan": asdict(self) | stops}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        return [
            *self._surface(),
            "",
            self.verdict(),
            *self._costs(),
            *(self._batches() if len(self.batches) > 1 else []),
            *self._drifts(),
        ]

    def _first_without(self, advices: set[Advice]) -> int | None:
        found = [one.batch for one in self.batches if Advice(one.advice) not in advices]
        return found[0] if found else None

    def _surface(self) -> list[str]:
        chosen = self.choice
        gammas = sorted({one.gamma for one in chosen.points})
        rate = "" if chosen.autoregressive is None else f" ({chosen.autoregressive:.1f} tokens/s)"
        what = "speed-up over autoregressive decoding" + rate
        if self.time == "parameters":
            what = "speed-up by parameters alone (a target pass takes 1, a draft step c)"
        of = {
            "bound": "at most: a bound from counts",
            "trace": "from the trace",
            "sampled trace": "expected, from the trace of sampled texts",
        }[self.acceptance]
        texts = f"{self.prompts:,} prompts, " if self.prompts else ""
        mix = "".join(f", {name} × {weight:g}" for name, weight in self.weights.items())
        head = f"{'K':>9}" + "".join(f"{f'γ = {gamma}':>8}" for gamma in gammas)
        rows = []
        for K in sorted({one.K for one in chosen.points}):
            cells = {one.gamma: one for one in chosen.points if one.K == K}
            row = f"{K:>9,}" + "".join(
                f"{cells[gamma].speedup:>7.3f}" + ("*" if cells[gamma] == chosen.chosen else " ")
                for gamma in gammas
            )
            rows.append(row.rstrip())
        return [
            f"{what}, {of}; batch {chosen.batch}, {texts}{self.tokens:,} tokens{mix}",
            head,
            *rows,
        ]

    def verdict(self) -> str:
        """Return what to do, and how much it is worth, as a sentence."""
        one, most = self.choice, "at most " if self.acceptance == "bound" else ""
        best, full = one.best, one.full
        within = f" (equal within {one.margin:.1%})" if one.margin else ""
        between = "" if one.interval is None else " [{:.3f}, {:.3f}]".format(*one.interval)
        at = f"K = {best.K:,} at γ = {best.gamma}"
        full_at = f"all {full.K:,} rows at γ = {full.gamma}"
        label = f"{one.advice}:"
        if Advice(one.advice) is Advice.DO_NOT_SPECULATE:
            return (
                f"{label} the best point, {at}, is {most}{best.speedup:.3f} times as fast as "
                f"autoregressive decoding{within}"
            )
        if Advice(one.advice) is Advice.DO_NOT_TRIM:
            return (
                f"{label} {full_at} is {most}{full.speedup:.3f} times as fast as autoregressive "
                f"decoding, and the best smaller vocabulary no more than {one.gain:.3f}{between} "
                f"times that{within}"
            )
        if Advice(one.advice) is Advice.UNDECIDED:
            return (
                f"{label} {at} is {most}{best.speedup:.3f} times as fast as autoregressive "
                f"decoding, and {full_at} at most {full.speedup:.3f} times; what trimming gains "
                "takes a trace"
            )
        return (
            f"{label} {at} is {most}{best.speedup:.3f} times as fast as autoregressive decoding "
            f"and {one.gain:.3f}{between} times as fast as {full_at}{within}"
        )

    def _costs(self) -> list[str]:
        lines, best = [], self.choice.chosen
        if best.mbsu is not None and best.mbsu_read is not None and self.by_mbsu is not None:
            other = self.by_mbsu
            lines.append(
                f"{'MBSU':<{WIDTH}}{best.mbsu:.3f} there, {best.mbsu_read:.3f} by bytes read; it "
                f"is best, {other.mbsu:.3f}, at K = {other.K:,}, γ = {other.gamma}"
            )
        if self.memory_delta_bytes is not None:
            lines.append(f"{'memory':<{WIDTH}}{self.memory_delta_bytes / 1e6:+,.1f} MB of weights")
        return lines

    def _batches(self) -> list[str]:
        lines = [
            f"{'batch ' + str(one.batch):<{WIDTH}}{one.advice}: K = {one.chosen.K:,} at γ = "
            f"{one.chosen.gamma}, {one.chosen.speedup:.3f} times autoregressive, "
            f"{one.chosen.speedup / one.full.speedup:.3f} times all rows"
            for one in self.batches
        ]
        if self.acceptance == "bound":
            return lines
        stops = self.trimming_stops_at
        known = ", ".join(str(one.batch) for one in self.batches)
        lines.append(
            f"trimming stops paying at batch {stops} (of {known} measured)"
            if stops is not None
            else f"trimming pays at every batch measured ({known})"
        )
        return lines

    def _drifts(self) -> list[str]:
        if not self.drift:
            return []
        width = max(len("if only"), *(len(one.domain) for one in self.drift))
        head = f"{'if only':<{width}}  prompts      τ  all rows  speed-up  ÷ all rows  ÷ own best"
        rows = [
            f"{one.domain:<{width}}  {one.prompts:>7,}  {one.block_efficiency:>5.3f}  "
            f"{one.full_block_efficiency:>8.3f}  {one.speedup:>8.3f}  {one.over_full:>10.3f}  "
            f"{one.under_best:>10.3f}"
            for one in self.drift
        ]
        return ["", head, *rows]
