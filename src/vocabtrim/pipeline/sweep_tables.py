"""A sweep as Markdown, with the rows of the source beside it.

The source is VocabTrim (arXiv 2506.22694): an EAGLE drafter and an independent
one of 314M parameters for Llama-3.2-3B-Instruct, V = 128,256, γ = 4 (inferred).
Its sizes are compared by their share of V, its tasks by name. Other pairs have
other acceptance, so what can be compared is the shape: what trimming costs in τ
and gains in MBSU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SOURCE_SIZES = {1: (3.63, 1.70), 2: (3.54, 1.83), 4: (3.43, 1.95), 8: (3.25, 1.90)}
"""One over the share of V to (τ, MBSU) of the EAGLE drafter."""

SOURCE_CALIBRATION = {"raw": 1.685, "drafter": 1.732, "target": 1.745}
"""Kind of calibration text to MBSU at a quarter of V, writing (inferred)."""

SOURCE_TASKS = {"writing": (1.475, 1.745), "math": (1.640, 1.950), "code": (1.708, 1.945)}
"""Task to MBSU of the EAGLE drafter: all rows, a quarter of them."""

SOURCE_INDEPENDENT = (2.91, 3.10)
"""Average MBSU of the independent drafter: all rows, a quarter of them."""

QUARTER = 4


def markdown(sweep: Mapping[str, Any]) -> str:
    """Return the tables of a sweep.

    Args:
        sweep: What `SweepResult.to_json` has under `sweep`.
    """
    parts = [_heading(sweep), _sizes(sweep), _kinds(sweep), _tasks(sweep), _usage(sweep)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(sweep: Mapping[str, Any]) -> str:
    opened = max(point["open"] for point in sweep["points"])
    said = f" Up to {opened:,} open positions count as refused." if opened else ""
    return (
        f"# The source's tables on {sweep['target']}\n\n"
        f"{sweep['prompts']:,} prompts, {sweep['tokens']:,} tokens of the target's greedy answers, "
        f"V = {sweep['V']:,}, γ = {sweep['gamma']}; replayed from traces, MBSU by parameters."
        f"{said} In brackets: the source (VocabTrim, 2506.22694), at the same share of V."
    )


def _sizes(sweep: Mapping[str, Any]) -> str:
    drafters, kind = _names(sweep, "drafter"), _best_kind(sweep)
    head = ["K", "of V", *(f"{name} τ | MBSU | MBSU read" for name in drafters), "source τ | MBSU"]
    rows = []
    for K in sorted({point["K"] for point in sweep["points"]}, reverse=True):
        share = sweep["V"] / K
        cells = [f"{K:,}", f"1/{share:.3g}"]
        for name in drafters:
            one = _point(sweep, name, kind, K)
            cells.append(
                " | | "
                if one is None
                else f"{one['block_efficiency']:.3f} | {one['mbsu']:.3f} | {one['mbsu_read']:.3f}"
            )
        source = SOURCE_SIZES.get(round(share))
        cells.append(" | " if source is None else f"({source[0]:.2f}) | ({source[1]:.2f})")
        rows.append(cells)
    return f"## K (calibration: {kind})\n\n" + _table(head, rows)


def _kinds(sweep: Mapping[str, Any]) -> str:
    drafters, K = _names(sweep, "drafter"), _quarter(sweep)
    head = ["calibration", *(f"{name} τ | MBSU" for name in drafters), "source MBSU, writing"]
    rows = []
    for kind in _names(sweep, "calibration"):
        cells = [kind]
        for name in drafters:
            one = _point(sweep, name, kind, K)
            cells.append(
                " | " if one is None else f"{one['block_efficiency']:.3f} | {one['mbsu']:.3f}"
            )
        source = SOURCE_CALIBRATION.get(kind)
        cells.append("" if source is None else f"({source:.3f})")
        rows.append(cells)
    return f"## Calibration text, at K = {K:,}\n\n" + _table(head, rows)


def _tasks(sweep: Mapping[str, Any]) -> str:
    K, kind = _quarter(sweep), _best_kind(sweep)
    parts = []
    for name in _names(sweep, "drafter"):
        full = max(p["K"] for p in sweep["points"] if p["drafter"] == name)
        whole, trimmed = _point(sweep, name, kind, full), _point(sweep, name, kind, K)
        if whole is None or trimmed is None or not trimmed["domains"]:
            continue
        rows = []
        for task in trimmed["domains"]:
            before, after = whole["domains"][task], trimmed["domains"][task]
            loss = after["block_efficiency"] / before["block_efficiency"] - 1
            gain = after["mbsu"] / before["mbsu"] - 1
            source = SOURCE_TASKS.get(task)
            rows.append(
                (
                    loss,
                    [
                        task,
                        f"{before['block_efficiency']:.3f} | {after['block_efficiency']:.3f}",
                        f"{loss:+.1%}",
                        f"{before['mbsu']:.3f} | {after['mbsu']:.3f} | {gain:+.1%}",
                        "" if source is None else _change(*source),
                    ],
                )
            )
        head = ["task", "τ, all rows | trimmed", "loss", "MBSU, all rows | trimmed | gain"]
        parts.append(
            f"### {name}\n\n"
            + _table([*head, "source, EAGLE"], [cells for _, cells in sorted(rows)])
        )
    if not parts:
        return ""
    before, after = SOURCE_INDEPENDENT
    return (
        f"## Tasks, at K = {K:,} (calibration: {kind}), worst loss first\n\n"
        + "\n\n".join(parts)
        + f"\n\nThe source's independent drafter, average: MBSU {before:.2f} → {after:.2f}, "
        f"{after / before - 1:+.1%}."
    )


def _change(before: float, after: float) -> str:
    return f"({before:.3f} → {after:.3f}, {after / before - 1:+.1%})"


def _usage(sweep: Mapping[str, Any]) -> str:
    if not sweep["usage"]:
        return ""
    tasks = sorted({task for one in sweep["usage"] for task in one["never"] if task})
    head = ["counts", "V", "all", *tasks]
    rows = []
    for one in sweep["usage"]:
        cells = [one["name"], f"{one['V']:,}"]
        for task in ("", *tasks):
            share = one["never"].get(task)
            tokens = "" if share is None else f" of {one['tokens'][task]:,}"
            cells.append("" if share is None else f"{share:.1%}{tokens}")
        rows.append(cells)
    return "## Ids never used, as a share of V (of so many tokens)\n\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(cells) for cells in (head, *rows)]
    columns = lines[0].count(" | ") + 1
    return "\n".join(
        [f"| {lines[0]} |", "|" + "---|" * columns, *(f"| {line} |" for line in lines[1:])]
    )


def _names(sweep: Mapping[str, Any], key: str) -> list[str]:
    return list(dict.fromkeys(point[key] for point in sweep["points"]))


def _best_kind(sweep: Mapping[str, Any]) -> str:
    """Return the kind that the tables of K and tasks are of: the target's text where there is."""
    kinds = _names(sweep, "calibration")
    return "target" if "target" in kinds else kinds[-1]


def _quarter(sweep: Mapping[str, Any]) -> int:
    """Return the K nearest to a quarter of V."""
    sizes = {int(point["K"]) for point in sweep["points"]}
    return min(sizes, key=lambda K: abs(QUARTER * K - int(sweep["V"])))


def _point(sweep: Mapping[str, Any], drafter: str, kind: str, K: int) -> Mapping[str, Any] | None:
    found: list[Mapping[str, Any]] = [
        point
        for point in sweep["points"]
        if (point["drafter"], point["calibration"], point["K"]) == (drafter, kind, K)
    ]
    return found[0] if found else None
