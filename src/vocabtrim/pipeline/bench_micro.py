"""`vocabtrim bench --micro`: a pair to what the parts of its cycles take here.

Opens target and drafter once and times them round by round, every batch size in
each round, so that the batch sizes can be compared with one another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.latency_file import Latencies
from vocabtrim.core.manifest import atomic_file, refuse_existing
from vocabtrim.pipeline.pair import Pair, open_pair

Advance = Callable[[int, int], None]
Clock = Callable[[], float]

GAMMAS = (1, 2, 3, 4, 6, 8)
BATCHES = (1, 4)
ROUNDS = 7
SMALLEST = 256
"""K that is timed at least."""
CONTEXT = 128


@dataclass(frozen=True)
class MicroResult:
    """What timing came to.

    Args:
        output: The file written.
        latencies: What it holds.
        seconds: That it took.
    """

    output: str
    latencies: Latencies
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return self.latencies.to_json()

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        found = self.latencies
        lines = [f"latencies  {found.drafter} for {found.target}  →  {self.output}"]
        for one in found.batches:
            draft = "  ".join(f"{K:,}: {1e3 * s:.2f}" for K, s in one.draft.items())
            verify = "  ".join(f"{n}: {1e3 * s:.1f}" for n, s in one.verify.items())
            line = one.draft_line
            lines += [
                f"batch {one.batch}",
                f"  draft step, ms by K          {draft}",
                f"  target pass, ms by tokens    {verify}",
                f"  model   {1e3 * line.intercept:.2f} ms + {1e9 * line.slope:.2f} µs per "
                f"1,000 rows, off by {line.error:.1%} at most; a cycle besides "
                f"{1e3 * one.commit:.2f} ms; noise {one.noise:.1%}",
            ]
        return lines


def bench_micro(
    target: Path,
    drafter: Path,
    output: Path,
    *,
    target_name: str | None = None,
    drafter_name: str | None = None,
    sizes: Sequence[int] = (),
    gammas: Sequence[int] = GAMMAS,
    batches: Sequence[int] = BATCHES,
    context: int = CONTEXT,
    rounds: int = ROUNDS,
    dtype: str = "float32",
    force: bool = False,
    progress: Advance | None = None,
    clock: Clock = time.perf_counter,
) -> MicroResult:
    """Time a pair and write the latencies.

    Args:
        target: Directory of the target.
        drafter: Directory of the drafter, over every id that it has rows for.
        output: The file to make.
        target_name: As it is named in the result; its directory's by default.
        drafter_name: The same for the drafter.
        sizes: K to be timed; by default the head's rows, a quarter and a 16th of
            them, and the smallest that `plan` looks at.
        gammas: Draft lengths to be timed.
        batches: Numbers of texts side by side.
        context: Tokens that each text begins with.
        rounds: Times that everything is timed, at least 2.
        dtype: "float32", "bfloat16" or "float16".
        force: Replace `output`.
        progress: Called with (rounds done, rounds in all).
        clock: Seconds since whenever.

    Raises:
        OutputExists: `output` is there and `force` is not given.
        DecodeError: A model cannot be used, or a number is out of range.
    """
    refuse_existing(output, force=force)
    if rounds < 2 or not batches:
        raise DecodeError("timing needs two rounds, to tell how noisy they are, and a batch size")
    began = clock()
    pair = open_pair(target, drafter, dtype)
    found = time_pair(
        pair,
        (target_name or target.name, drafter_name or drafter.name),
        sizes=sizes,
        gammas=gammas,
        batches=batches,
        context=context,
        rounds=rounds,
        progress=progress,
        clock=clock,
    )
    result = MicroResult(str(output), found, clock() - began)
    with atomic_file(output, force=force) as temporary:
        temporary.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
    return result


def time_pair(
    pair: Pair,
    names: tuple[str, str],
    *,
    sizes: Sequence[int] = (),
    gammas: Sequence[int] = GAMMAS,
    batches: Sequence[int] = BATCHES,
    context: int = CONTEXT,
    rounds: int = ROUNDS,
    progress: Advance | None = None,
    clock: Clock = time.perf_counter,
) -> Latencies:
    """Time a pair that is open; arguments as for `bench_micro`."""
    from vocabtrim.replay.latency import Meter, conditions

    rows = pair.drafter.head.vocab.size
    meters = [
        Meter(
            pair.target,
            pair.drafter,
            sizes=sizes or {min(SMALLEST, rows), max(1, rows >> 4), max(1, rows >> 2), rows},
            gammas=gammas,
            batch=batch,
            context=context,
            clock=clock,
        )
        for batch in sorted(set(batches))
    ]
    for number in range(rounds):
        for meter in meters:
            meter.round()
        if progress is not None:
            progress(number + 1, rounds)
    return Latencies(
        names[0],
        names[1],
        pair.drafter.head.vocab.vocab_size,
        pair.cost,
        tuple(meter.latency() for meter in meters),
        conditions(pair.target) | {"context": context, "rounds": rounds},
    )
