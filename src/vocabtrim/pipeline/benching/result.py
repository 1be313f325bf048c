"""What a measurement on an engine came to: a run for each arm, gains, verdicts.

The runs have the keys that every verb's runs have, and a few of their own. What
an engine counts differs a little from what we count (`core/metrics.py`): a cycle
is a target pass that verified a draft, acceptance at every position divides by
all of these, and a draft that runs over the end of a text counts whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vocabtrim.core.results import RunResult
from vocabtrim.pipeline.benching.gains import Gain, Ratio

HEADINGS = (
    "drafter",
    "K",
    "γ",
    "tok/s",
    "ms/tok",
    "τ",
    "accepted",
    "÷ none",
    "÷ full",
    "A/A",
    "same text",
    "memory",
)


@dataclass(frozen=True)
class BenchRun:
    """One arm, at one number of requests in flight.

    Args:
        run: Its keys of every run; `tokens_per_second` is of decoding where one
            request was in flight, else of the whole pass, prefill included.
        is_twin: Whether it repeats the first arm.
        concurrency: Requests in flight.
        time_per_token_ms: Of decoding, or of the pass.
        wall_tokens_per_second: By our clock, prefill and HTTP included.
        drafted: Draft tokens, by the engine's counters.
        accepted: Draft tokens accepted.
        same_text: Prompts whose text is that of the target alone: identical, of.
        over_base: Its rate over that of the first drafter at this draft length.
        peak_memory_bytes: Peak of resident memory of the server's processes.
        start_s: Seconds that a start of the server took, the median.
    """

    run: RunResult
    is_twin: bool
    concurrency: int
    time_per_token_ms: float | None
    wall_tokens_per_second: float | None
    drafted: int | None
    accepted: int | None
    same_text: Mapping[str, int] | None
    over_base: Ratio | None
    peak_memory_bytes: int | None
    start_s: float | None

    @property
    def name(self) -> str:
        """What a reader knows it by."""
        drafter = self.run.drafter or "none"
        return f"{drafter} (again)" if self.is_twin else drafter

    def to_json(self) -> dict[str, Any]:
        """Return the run with its keys, those of every run first."""
        own = {
            "is_twin": self.is_twin,
            "concurrency": self.concurrency,
            "time_per_token_ms": self.time_per_token_ms,
            "wall_tokens_per_second": self.wall_tokens_per_second,
            "drafted": self.drafted,
            "accepted": self.accepted,
            "same_text": self.same_text,
            "over_base": None if self.over_base is None else asdict(self.over_base),
            "peak_memory_bytes": self.peak_memory_bytes,
            "start_s": self.start_s,
        }
        return self.run.to_json() | own


@dataclass(frozen=True)
class TextVerdict:
    """Whether a trimmed drafter changes more texts than the full one.

    Speculation itself changes a text where an engine computes one token and
    several with different rounding; trimming must add nothing to that.

    Args:
        drafter: The trimmed one.
        base: The full one.
        different: Prompts whose text differs from the target's own, by draft
            length: with the trimmed drafter, with the full one.
        of: Prompts.
    """

    drafter: str
    base: str
    different: Mapping[int, tuple[int, int]]
    of: int

    @property
    def passed(self) -> bool:
        """Whether it changes no more of them at any draft length."""
        return all(trimmed <= full for trimmed, full in self.different.values())

    def line(self) -> str:
        """Return the verdict as a sentence."""
        counts = ", ".join(
            f"γ {gamma}: {trimmed} against {full}"
            for gamma, (trimmed, full) in self.different.items()
        )
        return (
            f"{'passed' if self.passed else 'not passed'}: texts of {self.of} that differ from "
            f"those without speculation, {self.drafter} against {self.base}: {counts}"
        )


@dataclass(frozen=True)
class BenchResult:
    """What a measurement came to.

    Args:
        engine: Its name.
        version: What it says of itself.
        runs: By requests in flight: the target alone, again, then the drafters.
        gains: By requests in flight, each drafter but the first against the first.
        texts: The same drafters' texts.
        facts: How it was measured: repeats, whether servers were up together, …
        warnings: What a reader should know.
    """

    engine: str
    version: str
    runs: tuple[BenchRun, ...]
    gains: tuple[Gain, ...]
    texts: tuple[TextVerdict, ...]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        gains = [
            asdict(gain) | {"trim": gain.trim, "verdict": gain.verdict()} for gain in self.gains
        ]
        texts = [asdict(text) | {"passed": text.passed} for text in self.texts]
        return {
            "runs": [run.to_json() for run in self.runs],
            "bench": {
                "engine": self.engine,
                "version": self.version,
                **self.facts,
                "gains": gains,
                "texts": texts,
                "fastest": [fastest_line(self.runs, level) for level in self.levels],
            },
        }

    @property
    def levels(self) -> list[int]:
        """Requests in flight that were measured, ascending."""
        return sorted({run.concurrency for run in self.runs})

    def lines(self) -> list[str]:
        """Return tables and verdicts for a reader."""
        lines = [self._how()]
        for level in self.levels:
            flight = "one request at a time" if level == 1 else f"{level} requests in flight"
            chosen = [run for run in self.runs if run.concurrency == level]
            lines += ["", f"{flight}:", *_table([HEADINGS, *map(_cells, chosen)])]
            lines += [gain.verdict() for gain in self.gains if gain.concurrency == level]
            fastest = fastest_line(self.runs, level)
            lines += [fastest] if fastest else []
        if self.texts:
            lines += ["", *(f"text {text.line()}" for text in self.texts)]
        return lines

    def _how(self) -> str:
        facts = self.facts
        if facts["base_url"]:
            where = f"at {facts['base_url']}"
        elif facts["together"]:
            where = f"{facts['servers']} servers up at once"
        else:
            where = "one server up at a time"
        start = "" if facts["start_s"] is None else f", {facts['start_s']:.1f} s to start one"
        return (
            f"{self.engine} {self.version}: {facts['prompts']} prompts × {facts['repeat']}, at "
            f"most {facts['max_new_tokens']} tokens, greedy; {where}{start}"
        )


def fastest_line(runs: Sequence[BenchRun], concurrency: int) -> str:
    """Say whether speculation pays at all; "" where there is nothing to compare."""
    chosen = [
        run
        for run in runs
        if run.concurrency == concurrency and run.run.tokens_per_second and not run.is_twin
    ]
    speculating = [run for run in chosen if run.run.drafter is not None]
    plain = [run for run in chosen if run.run.drafter is None]
    if not speculating or not plain:
        return ""
    best = max(speculating, key=lambda run: run.run.tokens_per_second or 0.0)
    speedup, noise = best.run.speedup or 0.0, best.run.noise or 0.0
    what = f"{best.name} at γ {best.run.gamma} is {speedup:.3f} times as fast as no speculation"
    if speedup - 1.0 > noise:
        return f"speculation pays: {what} (noise {noise:.1%})"
    tau = best.run.block_efficiency
    needs = (
        ""
        if tau is None or not 0 < speedup < 1
        else f"; it needs τ {tau / speedup:.2f}, not {tau:.2f}"
    )
    return f"speculation does not pay here: {what} (noise {noise:.1%}){needs}"


def _cells(run: BenchRun) -> tuple[str, ...]:
    facts, same = run.run, run.same_text
    memory = run.peak_memory_bytes
    return (
        run.name,
        "" if facts.K is None else f"{facts.K:,}",
        str(facts.gamma),
        _number(facts.tokens_per_second, ".1f"),
        _number(run.time_per_token_ms, ".2f"),
        _number(facts.block_efficiency, ".3f"),
        _number(facts.acceptance_rate, ".1%"),
        _number(facts.speedup, ".3f"),
        "" if run.over_base is None else str(run.over_base),
        _number(facts.noise, ".1%"),
        "" if same is None else f"{same['identical']}/{same['of']}",
        "" if memory is None else f"{memory / 1e6:,.0f} MB",
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
