"""What `fit` came to, for `--json` and for a reader.

Five parts in the order of the work: where the bytes are, whether the traffic is
enough, which K and why, what was made of the drafter, and how it is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vocabtrim.pipeline.appraisal import Appraisal
from vocabtrim.pipeline.check import CheckResult
from vocabtrim.pipeline.count_result import CountResult
from vocabtrim.pipeline.export_request import ExportResult
from vocabtrim.pipeline.fitting.choice import SizeChoice
from vocabtrim.pipeline.trim_result import TrimResult

WIDTH = 15
"""Columns of the labels."""


@dataclass(frozen=True)
class Made:
    """What was made of the drafter.

    Args:
        trimmed: The drafter with fewer rows.
        checked: What `check` finds in it.
        exported: What the engine is given; None where a fault was found.
    """

    trimmed: TrimResult
    checked: CheckResult
    exported: ExportResult | None


@dataclass(frozen=True)
class FitResult:
    """What a fit came to.

    Args:
        output: The directory with everything in it.
        V: Ids of the tokenizer.
        rows: Rows of the drafter's head before.
        bytes_lines: Where the bytes are, as `inspect` says it.
        counted: The traffic.
        choice: K and why.
        counts: What the counts say of the vocabulary.
        made: None where trimming does not pay.
        warnings: What a reader should know, one sentence each.
    """

    output: str
    V: int
    rows: int
    bytes_lines: tuple[str, ...]
    counted: CountResult
    choice: SizeChoice
    counts: Appraisal
    made: Made | None
    warnings: tuple[str, ...] = ()

    @property
    def faulty(self) -> bool:
        """Whether `check` found a fault in what was made."""
        return self.made is not None and self.made.checked.failed(strict=False)

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        made = self.made
        document: dict[str, Any] = {
            "output": self.output,
            "V": self.V,
            "rows": self.rows,
            "choice": asdict(self.choice),
            **self.counted.to_json(),
            "select": {"K": self.choice.K, **self.counts.to_json()},
            "warnings": list(self.warnings),
        }
        for part in () if made is None else (made.trimmed, made.checked, made.exported):
            document |= {} if part is None else part.to_json()
        return {"fit": document}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        return [
            *_headed("where the bytes are", self.bytes_lines),
            *_headed("the traffic", self.counted.lines()),
            *_headed("the draft vocabulary", [*self._sizes(), *self._worth()]),
            *_headed("the drafter", self._drafter()),
        ]

    def _sizes(self) -> list[str]:
        chosen = self.choice
        lines = []
        for K, tau in chosen.ceilings:
            mark = "  ← chosen" if K == chosen.K and chosen.trims else ""
            share = K / self.rows
            lines.append(f"{K:>9,} rows ({share:>4.0%}): τ at most {tau:.2f}{mark}")
        verdict = f"K = {chosen.K:,}" if chosen.trims else "do not trim"
        return [*lines, f"{verdict}, γ = {chosen.gamma}: {chosen.reason}"]

    def _worth(self) -> list[str]:
        return self.counts.lines(self.choice.K, WIDTH) if self.choice.trims else []

    def _drafter(self) -> list[str]:
        if self.made is None:
            return ["nothing is made of it (--top-k N makes what you ask for)"]
        trimmed, made = self.made.trimmed, self.made
        sign = "added" if trimmed.memory_delta_bytes > 0 else "freed"
        lines = [
            f"{'head':<{WIDTH}}{trimmed.K_before:,} → {trimmed.K:,} rows, "
            f"{_mb(trimmed.head_bytes_before)} → {_mb(trimmed.head_bytes)}",
            f"{'draft step':<{WIDTH}}{_mb(trimmed.step_bytes_before)} → {_mb(trimmed.step_bytes)} "
            f"read ({trimmed.step_bytes / trimmed.step_bytes_before:.0%})",
            f"{'memory':<{WIDTH}}{_mb(abs(trimmed.memory_delta_bytes))} {sign}",
            *made.checked.lines(),
        ]
        if made.exported is None:
            return [*lines, "check found a fault, so nothing was exported"]
        return [*lines, *made.exported.lines()]


def _headed(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines), ""]


def _mb(nbytes: float) -> str:
    return f"{nbytes / 1e6:,.1f} MB"
