"""Latencies on disk: JSON, of ours or from an engine's bench.

`bench --micro` writes `{"latency": …}`: the pair, how it was run, its costs, and
the latencies of each batch size. A bench on an engine writes `{"runs": …}`:
whole cycles, by drafter and draft length, from which the parts are worked out
(`Latency.of_cycles`). `read_latencies` takes either, by content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vocabtrim.core.latency import Latency, LatencyError
from vocabtrim.core.metrics import MetricsError
from vocabtrim.core.pair_cost import PairCost


@dataclass(frozen=True)
class Latencies:
    """What was measured of a pair.

    Args:
        target: Name of the target.
        drafter: Name of the drafter.
        V: Ids of the target; None where it is not known.
        cost: What steps hold and read; None where it is not known.
        batches: By batch size, ascending; one at least.
        conditions: How it was run: precision, threads, context, rounds.
    """

    target: str
    drafter: str
    V: int | None
    cost: PairCost | None
    batches: tuple[Latency, ...]
    conditions: Mapping[str, Any]

    def __post_init__(self) -> None:
        sizes = [one.batch for one in self.batches]
        if not sizes or sizes != sorted(set(sizes)):
            raise LatencyError("latencies need batch sizes, each once and ascending")

    def to_json(self) -> dict[str, Any]:
        """Return the document that holds them."""
        return {
            "latency": {
                "target": self.target,
                "drafter": self.drafter,
                "V": self.V,
                "cost": None if self.cost is None else self.cost.to_json(),
                "batches": [one.to_json() for one in self.batches],
                "conditions": dict(self.conditions),
            }
        }


def read_latencies(path: Path) -> Latencies:
    """Read what `bench --micro`, or a bench on an engine, wrote.

    Raises:
        LatencyError: The file is neither, or its times explain nothing.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise LatencyError(f"{path}: no JSON can be read there ({fault})") from fault
    try:
        if "latency" in document:
            return _own(document["latency"])
        return _of_runs(document["runs"])
    except LatencyError as fault:
        raise LatencyError(f"{path}: {fault}") from fault
    except (KeyError, TypeError, AttributeError, ValueError, MetricsError) as fault:
        raise LatencyError(
            f"{path}: this is neither what `bench --micro` wrote nor what a bench on an engine "
            f"wrote ({fault!r})"
        ) from fault


def _own(document: Mapping[str, Any]) -> Latencies:
    V, cost = document["V"], document["cost"]
    return Latencies(
        str(document["target"]),
        str(document["drafter"]),
        None if V is None else int(V),
        None if cost is None else PairCost.from_json(cost),
        tuple(Latency.from_json(one) for one in document["batches"]),
        dict(document["conditions"]),
    )


def _of_runs(runs: Sequence[Mapping[str, Any]]) -> Latencies:
    measured = [run for run in runs if run["tokens_per_second"] and not run.get("is_twin")]
    names = [run["drafter"] for run in measured if run["drafter"] is not None]
    if not names:
        raise LatencyError("no run of this bench drafted and was timed")
    batches = sorted({int(run["batch"]) for run in measured})
    first = measured[0]
    return Latencies(
        str(first["target"]),
        str(names[0]),
        first["V"],
        None,
        tuple(_of_batch([run for run in measured if run["batch"] == one], one) for one in batches),
        {"runs": len(measured)},
    )


def _of_batch(runs: Sequence[Mapping[str, Any]], batch: int) -> Latency:
    plain = [run for run in runs if run["drafter"] is None]
    drafting = [run for run in runs if run["drafter"] is not None and run["block_efficiency"]]
    if not plain:
        raise LatencyError(f"no autoregressive run at batch {batch} to compare with")
    if any(run["K"] is None for run in drafting):
        raise LatencyError("a run does not say how many rows its drafter's head has")
    cycles = {
        (int(run["K"]), int(run["gamma"])): batch
        * run["block_efficiency"]
        / run["tokens_per_second"]
        for run in drafting
    }
    once = [run["head_reads_per_cycle"] == 1 for run in drafting if run["gamma"] > 1]
    found = Latency.of_cycles(
        batch,
        batch / plain[0]["tokens_per_second"],
        cycles,
        one_step=bool(once) and all(once),
    )
    spread = max([run["noise"] or 0.0 for run in runs], default=0.0)
    return replace(found, noise=max(found.noise, spread))
