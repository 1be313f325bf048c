"""Learning curves: read one, and compare two at equal visits.

    python -m recipes.curve WORK recipes/curves/eagle3.jsonl

prints agreement by step of a run of yours beside that of a shipped drafter, at
every number of visits that both have, and fails where they are further apart
than `--points`. The same data, seed and starting drafter give the same curve;
other data of the same kind gives one that is close.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from recipes.training.state import CONSTANT, CURVE, DECAYED, DRAFTER
from vocabtrim.core.errors import ArtifactError, VocabtrimError

Curve = list[dict[str, Any]]


def phase_of(work: Path) -> str:
    """Return the phase of a run that counts: the decay where it has begun."""
    return DECAYED if (work / DECAYED / DRAFTER).is_dir() else CONSTANT


def read_curve(path: Path) -> Curve:
    """Read a curve: of a work directory, or a file.

    Raises:
        ArtifactError: There is none.
    """
    file = path / phase_of(path) / CURVE if path.is_dir() else path
    try:
        points = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as fault:
        raise ArtifactError(f"{path} has no learning curve in it ({fault})") from fault
    if not all(isinstance(one, dict) and {"visits", "agreement"} <= one.keys() for one in points):
        raise ArtifactError(f"{path} is no learning curve: give a work directory or a curve.jsonl")
    return points


def agreement_at(curve: Curve, visits: int) -> list[float]:
    """Return agreement by step at a number of visits, between two points.

    Raises:
        ArtifactError: The run did not get that far.
    """
    for before, after in pairwise(curve):
        if before["visits"] <= visits <= after["visits"]:
            share = (visits - before["visits"]) / (after["visits"] - before["visits"])
            return [
                low + share * (high - low)
                for low, high in zip(before["agreement"], after["agreement"], strict=True)
            ]
    end = curve[-1]["visits"] if curve else 0
    raise ArtifactError(f"the curve ends at {end} of {visits} visits")


def compare(mine: Curve, theirs: Curve) -> list[tuple[int, list[float], list[float]]]:
    """Return (visits, agreement of mine, of theirs) at the points of mine that both have.

    Raises:
        ArtifactError: They share no part, or are of different recipes.
    """
    steps = [len(curve[0]["agreement"]) if curve else 0 for curve in (mine, theirs)]
    if all(steps) and steps[0] != steps[1]:
        raise ArtifactError(
            f"one curve has {steps[0]} steps, the other {steps[1]}: compare runs of one recipe"
        )
    end = min(curve[-1]["visits"] if curve else -1 for curve in (mine, theirs))
    shared = [point for point in mine if point["visits"] <= end]
    if not shared or len(theirs) < 2:
        raise ArtifactError("the two curves have no number of visits in common: train on")
    return [
        (point["visits"], point["agreement"], agreement_at(theirs, point["visits"]))
        for point in shared
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print both curves; return 1 where they are too far apart, 2 on bad input."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("mine", type=Path, help="work directory, or a curve")
    options.add_argument("theirs", type=Path, help="work directory, or a curve")
    options.add_argument("--points", type=float, default=2.0, help="largest difference, per cent")
    arguments = options.parse_args(argv)
    try:
        rows = compare(read_curve(arguments.mine), read_curve(arguments.theirs))
    except VocabtrimError as fault:
        print(f"curve: {fault}", file=sys.stderr)
        return fault.exit_code
    worst = 0.0
    print(f"{'visits':>9}  {'mine':20}  {'theirs':20}  apart, points")
    for visits, mine, theirs in rows:
        apart = [100 * (one - other) for one, other in zip(mine, theirs, strict=True)]
        worst = max(worst, *map(abs, apart))
        shown = (" ".join(f"{one:.3f}" for one in both) for both in (mine, theirs))
        print(f"{visits:9,}  {'  '.join(f'{one:20}' for one in shown)}  ", end="")
        print(" ".join(f"{one:+.2f}" for one in apart))
    print(f"furthest apart: {worst:.2f} points, allowed {arguments.points}")
    return int(worst > arguments.points)


if __name__ == "__main__":
    sys.exit(main())
