"""What cycle times say of trimming: the tables of `real_shapes.py`.

Latency is measured, acceptance is not. Beside Llama-3.2-3B stand the block
efficiencies of VocabTrim's table (arXiv 2506.22694, γ = 4), so the speed-up there
is τ(K) · T(none) / T(K, γ). Elsewhere there are bounds: what trimming gains if it
costs no acceptance, and, where counts of the tokenizer are given, what a drafter
gains that is right whenever its vocabulary has the token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.random_models import Shape
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import VocabtrimError

MOST_ACCEPTED = 0.02
SOURCE_SHAPE, SOURCE_GAMMA = "Llama-3.2-3B", 4
SOURCE_TAU = {16_384: 3.25, 32_768: 3.43, 65_536: 3.54, 128_256: 3.63}
"""Rows to block efficiency in VocabTrim's table, an EAGLE drafter of this target."""


@dataclass(frozen=True)
class Point:
    """One cycle time.

    Args:
        shape: Name of the shape.
        kind: Type of the weights.
        rows: K; 0 without a drafter.
        gamma: Draft length; 0 without a drafter.
        cycle_ms: Of a cycle; of a token without a drafter.
        spread: Range of the repeats over their median.
        accepted: Accepted / drafted tokens.
        start_s: Until the server was up.
    """

    shape: str
    kind: str
    rows: int
    gamma: int
    cycle_ms: float
    spread: float
    accepted: float
    start_s: float


@dataclass(frozen=True)
class Table:
    """The points of one shape and type.

    Args:
        shape: Name of the shape.
        kind: Type of the weights.
        points: As they were measured.
        coverage: Rows to the share of tokens that they cover, where counts were given.
    """

    shape: str
    kind: str
    points: Sequence[Point]
    coverage: Mapping[int, float]

    @property
    def plain_ms(self) -> list[float]:
        """Of a token without a drafter, one for each turn."""
        return [point.cycle_ms for point in self.points if not point.gamma]

    @property
    def noise(self) -> float:
        """How far these lie apart."""
        return max(self.plain_ms) / min(self.plain_ms) - 1.0

    def cycle(self, rows: int, gamma: int) -> float:
        """T(K, γ) in milliseconds."""
        found = [p.cycle_ms for p in self.points if (p.rows, p.gamma) == (rows, gamma)]
        return found[0]

    @property
    def rows(self) -> list[int]:
        """K, ascending; the last is V."""
        return sorted({point.rows for point in self.points if point.gamma})

    @property
    def gammas(self) -> list[int]:
        """Draft lengths, ascending."""
        return sorted({point.gamma for point in self.points if point.gamma})

    def lines(self) -> list[str]:
        """Return the table and what follows from it, as Markdown."""
        plain = median(self.plain_ms)
        scatter = [point.spread for point in self.points if point.gamma]
        heads = [f"T(K, {gamma})" for gamma in self.gammas]
        gains = [f"÷ full, γ {gamma}" for gamma in self.gammas]
        lines = [
            f"### {self.shape}, {self.kind}",
            "",
            f"Without a drafter {plain:.1f} ms a token; its turns lie "
            f"{self.noise:.1%} apart. The turns of a cycle lie {median(scatter):.1%} apart, at "
            f"most {max(scatter):.1%}: smaller differences say nothing. Milliseconds of a cycle; "
            "*÷ full*: T(V, γ) / T(K, γ), what trimming gains at most, if it costs no acceptance "
            "(*latency measured, a bound*).",
            "",
            _row("K", *heads, *gains),
            _row(*["---:"] * (1 + 2 * len(self.gammas))),
        ]
        full = self.rows[-1]
        for rows in self.rows:
            cycles = [self.cycle(rows, gamma) for gamma in self.gammas]
            ratios = [self.cycle(full, gamma) / self.cycle(rows, gamma) for gamma in self.gammas]
            lines.append(
                _row(f"{rows:,}", *(f"{one:.1f}" for one in cycles), *(f"{x:.2f}" for x in ratios))
            )
        return [*lines, "", *self._speedups(plain)]

    def _speedups(self, plain: float) -> list[str]:
        if self.shape == SOURCE_SHAPE and SOURCE_GAMMA in self.gammas:
            return self._by(
                plain,
                "*Latency measured, acceptance from the source* (block efficiency τ of VocabTrim's "
                f"EAGLE drafter for this target, γ = {SOURCE_GAMMA}):",
                lambda rows, _: SOURCE_TAU.get(rows),
                [SOURCE_GAMMA],
            )
        if self.coverage:
            return self._by(
                plain,
                "*Latency measured, a bound*: a drafter that is right whenever its vocabulary has "
                "the token, tokens outside falling independently with the share that the counts "
                "say: τ = 1 + c + … + c^γ.",
                lambda rows, gamma: ceiling(self.coverage[rows], gamma),
                self.gammas,
            )
        return []

    def _by(
        self,
        plain: float,
        label: str,
        tau: Callable[[int, int], float | None],
        gammas: Sequence[int],
    ) -> list[str]:
        lines = [label, "", _row("K", "γ", "τ", "speed-up", "trimmed ÷ full"), _row(*["---:"] * 5)]
        full = self.rows[-1]
        for gamma in gammas:
            base = tau(full, gamma)
            for rows in self.rows:
                found = tau(rows, gamma)
                if found is None or base is None:
                    continue
                speedup = found * plain / self.cycle(rows, gamma)
                gain = found / base * self.cycle(full, gamma) / self.cycle(rows, gamma)
                cells = (f"{rows:,}", str(gamma), f"{found:.2f}", f"{speedup:.2f}", f"{gain:.2f}")
                lines.append(_row(*cells))
        return [*lines, ""]


def ceiling(coverage: float, gamma: int) -> float:
    """Return tau of a drafter that is right with this probability, whatever came before."""
    return float(sum(coverage**accepted for accepted in range(gamma + 1)))


def coverage_of(path: Path | None, shape: Shape, rows: Sequence[int]) -> dict[int, float]:
    """Return rows to the share of counted tokens that the most frequent ids cover."""
    if path is None:
        return {}
    counts, _ = read_counts(path)
    if counts.vocab_size > shape.vocab_size:
        raise VocabtrimError(f"{path} counts {counts.vocab_size} ids, not those of {shape.name}")
    ordered = np.sort(counts.counts)[::-1].cumsum()
    return {one: float(ordered[min(one, ordered.size) - 1] / ordered[-1]) for one in rows}


def page(tables: Sequence[Table], version: str, threads: int, minutes: float) -> str:
    """Return everything as one page."""
    intro = (
        "# Cycle times at real shapes\n\n"
        "Written by `benchmarks/real_shapes.py`: random weights, heads untied and drawn "
        f"independently, llama.cpp {version}, {threads} threads, batch 1, {minutes:.0f} minutes. "
        "No acceptance is measured here: drafts of random weights are wrong "
        f"(the run fails above {MOST_ACCEPTED:.0%}).\n"
    )
    return "\n".join([intro, *(line for table in tables for line in table.lines())]).rstrip() + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
