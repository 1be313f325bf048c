"""Cycle times of llama.cpp at the shapes of real models, by rows of the draft head.

    python -m benchmarks.real_shapes --server-bin PATH/llama-server [-o docs/results/real_shapes.md]

Files with random weights (`random_models.py`) are written, served, timed and
removed, a shape and a type at a time: T(K, γ) is the time of a cycle that drafts γ
tokens over K ids and verifies them. A text is asked for at two lengths, and a
cycle is the difference of their times over the difference of the engine's own
counts of drafts: what a request takes besides, and the shorter drafts before its
end, cancel. Acceptance above 2 % fails the run, for then drafts are not random.

Latency is measured, acceptance is not; what follows from it is
`real_shapes_page.py`. The last line is JSON; the page is written when everything
is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.random_models import BLOCKS, SHAPES, Shape, write_drafter, write_target
from benchmarks.real_shapes_page import MOST_ACCEPTED, Point, Table, coverage_of, page
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.engines.openai.exchange import ExchangeError
from vocabtrim.engines.serving.base import EngineFailure, Serve
from vocabtrim.engines.serving.counters import Metrics, counted, read_metrics
from vocabtrim.engines.serving.interrupts import Interrupts
from vocabtrim.engines.serving.launch import Launcher, Limits, Server, end_servers
from vocabtrim.engines.serving.llama_cpp import COUNTERS, METHODS, PLUGIN

ROWS = (4096, 8192, 16_384, 32_768, 65_536)
GAMMAS = (1, 2, 3, 4)
CYCLES = 12
"""Cycles between the two lengths of a text."""

PROMPT_TOKENS = 32
SETTLE_S = 5.0
PAGE = "docs/results/real_shapes.md"


class NotRandom(VocabtrimError):
    """Drafts were accepted more often than by chance."""

    exit_code = 3


@dataclass(frozen=True)
class Reading:
    """One text: milliseconds of decoding, tokens, and what was drafted."""

    ms: float
    tokens: int
    drafts: int
    drafted: int
    accepted: int


@dataclass(frozen=True)
class Timing:
    """One turn of one arm: milliseconds of a cycle, several times, and what was drafted."""

    times: tuple[float, ...]
    drafted: int
    accepted: int
    start_s: float


@dataclass(eq=False)
class Bench:
    """Serves and times.

    Args:
        launcher: Starts servers.
        threads: Of llama.cpp.
        seconds: Least time of measurement for an arm, each turn.
    """

    launcher: Launcher
    threads: int
    seconds: float

    def timed(self, target: Path, drafter: Path | None, gamma: int) -> Timing:
        """Serve a target with or without a drafter and time its cycle."""
        arguments = ("-t", str(self.threads), "-fit", "off")
        serve = Serve(target, drafter, METHODS["eagle3"], gamma, 1, 512, arguments)
        started: list[Server] = []
        times: list[float] = []
        readings: list[Reading] = []
        try:
            server = self.launcher.start(serve, started)
            self.text(server, 4)
            short, long = gamma + 2, gamma + 2 + CYCLES
            began = time.monotonic()
            while not times or time.monotonic() - began < self.seconds:
                pair = self.text(server, short), self.text(server, long)
                readings += pair
                times.append(cycle_ms(*pair, drafts=bool(gamma)))
        finally:
            end_servers(started, self.launcher.limits, self.launcher.interrupts)
        drafted, accepted = (
            sum(getattr(one, name) for one in readings) for name in ("drafted", "accepted")
        )
        return Timing(tuple(times), drafted, accepted, server.start_s or 0.0)

    def text(self, server: Server, tokens: int) -> Reading:
        """Let a server write so many tokens."""
        asked = {
            "prompt": list(range(100, 100 + PROMPT_TOKENS)),
            "n_predict": tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            **PLUGIN.fields,
        }
        before = self.metrics(server)
        try:
            with self.launcher.interrupts.open():
                reply = server.root.send("/completion", asked, timeout_s=600.0)
        except ExchangeError as fault:
            raise server.explain() or EngineFailure(f"llama.cpp: {fault.reason}") from fault
        if reply.status != 200:
            raise EngineFailure(f"llama.cpp: HTTP {reply.status} {reply.body[:200]!r}")
        timings = json.loads(reply.body)["timings"]
        # an answer is counted a moment after it was sent
        limit = time.monotonic() + SETTLE_S
        while time.monotonic() < limit:
            found = counted(COUNTERS, before, self.metrics(server), timings["predicted_n"])
            if found is not None:
                if found.drafted != timings.get("draft_n", 0):
                    break
                ms, tokens = timings["predicted_ms"], timings["predicted_n"]
                return Reading(ms, tokens, found.drafts, found.drafted, found.accepted)
        raise EngineFailure("llama.cpp's counters and its answers differ")

    def metrics(self, server: Server) -> Metrics:
        """Read a server's counters."""
        with self.launcher.interrupts.open():
            return read_metrics(server.root.send("/metrics", timeout_s=60.0).body.decode())


def cycle_ms(short: Reading, long: Reading, *, drafts: bool) -> float:
    """Return the time of a cycle from a shorter and a longer text."""
    more = long.drafts - short.drafts if drafts else long.tokens - short.tokens
    if more <= 0:
        raise EngineFailure("the longer text has no more drafts than the shorter one")
    return (long.ms - short.ms) / more


def merged(timings: Sequence[Timing], shape: Shape, kind: str, rows: int, gamma: int) -> Point:
    """Return one point from all turns.

    Raises:
        NotRandom: Drafts were right more often than random ones are.
    """
    times = [one for timing in timings for one in timing.times]
    drafted = sum(timing.drafted for timing in timings)
    accepted = sum(timing.accepted for timing in timings) / drafted if drafted else 0.0
    if accepted > MOST_ACCEPTED:
        raise NotRandom(
            f"{shape.name} {kind}, K = {rows}, γ = {gamma}: {accepted:.1%} of the drafts were "
            f"accepted, and random ones are below {MOST_ACCEPTED:.0%}"
        )
    middle = median(times)
    start_s = median(timing.start_s for timing in timings)
    spread = (max(times) - min(times)) / middle
    return Point(shape.name, kind, rows, gamma, middle, spread, accepted, start_s)


def measure(
    shape: Shape, kind: str, bench: Bench, options: argparse.Namespace, directory: Path
) -> list[Point]:
    """Write the files of a shape, time every point in turns, and remove the files."""
    target = directory / "target.gguf"
    write_target(target, shape, kind, seed=1)
    all_rows = [*(rows for rows in options.rows if rows < shape.vocab_size), shape.vocab_size]
    drafters = {}
    for number, rows in enumerate(all_rows):
        drafters[rows] = directory / f"drafter-{rows}.gguf"
        write_drafter(drafters[rows], shape, kind, rows, seed=2 + number)
    arms = [(0, 0), *((rows, gamma) for gamma in options.gammas for rows in drafters)]
    found: dict[tuple[int, int], list[Timing]] = {arm: [] for arm in arms}
    for turn in range(options.turns):
        # back and forth, so that a machine that slows down slows no arm more than another
        for rows, gamma in arms if turn % 2 == 0 else reversed(arms):
            timing = bench.timed(target, drafters.get(rows), gamma)
            found[rows, gamma].append(timing)
            show(merged([timing], shape, kind, rows, gamma))
    for path in (target, *drafters.values()):
        path.unlink()
    alone = [merged([timing], shape, kind, 0, 0) for timing in found.pop((0, 0))]
    return alone + [merged(timings, shape, kind, *arm) for arm, timings in found.items()]


def show(point: Point) -> None:
    print(
        f"{point.shape:<14}{point.kind:<6}K {point.rows:>7,}  γ {point.gamma}  "
        f"{point.cycle_ms:>9.2f} ms  ±{point.spread / 2:.1%}  {point.accepted:.2%} accepted  "
        f"up in {point.start_s:.1f} s",
        flush=True,
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--server-bin", type=Path, help="llama-server; else that on the PATH")
    parser.add_argument("--shape", action="append", choices=list(SHAPES), help="repeatable")
    parser.add_argument("--type", action="append", choices=list(BLOCKS), help="repeatable")
    parser.add_argument("--rows", type=int, nargs="*", default=list(ROWS), help="K, V besides")
    parser.add_argument("--gammas", type=int, nargs="+", default=list(GAMMAS))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--turns", type=int, default=2, help="of every arm, at least 2")
    parser.add_argument("--seconds", type=float, default=3.0, help="of an arm, each turn")
    parser.add_argument(
        "--counts", action="append", default=[], metavar="SHAPE=FILE", help="for the bound"
    )
    parser.add_argument("--scratch", type=Path, help="room for 6 GB; the temporary directory")
    parser.add_argument("-o", "--output", type=Path, help=f"the page, as {PAGE}")
    options = parser.parse_args(arguments)
    if options.turns < 2:
        parser.error("one turn says nothing of the noise: give --turns 2 or more")
    return options


def run(options: argparse.Namespace, shapes: Mapping[str, Shape] = SHAPES) -> dict[str, Any]:
    """Measure everything that is asked for; write the page; return what was found."""
    began = time.monotonic()
    interrupts = Interrupts()
    counts = dict(entry.split("=", 1) for entry in options.counts)
    with interrupts.held(), tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        directory = Path(temporary)
        program = PLUGIN.find(options.server_bin, [METHODS["eagle3"]])
        launcher = Launcher(PLUGIN, program, directory, Limits(), interrupts)
        bench = Bench(launcher, options.threads, options.seconds)
        tables = []
        for name in options.shape or shapes:
            for kind in options.type or BLOCKS:
                points = measure(shapes[name], kind, bench, options, directory)
                rows = sorted({point.rows for point in points if point.rows})
                file = Path(counts[name]) if name in counts else None
                coverage = coverage_of(file, shapes[name], rows)
                tables.append(Table(name, kind, points, coverage))
    minutes = (time.monotonic() - began) / 60.0
    text = page(tables, program.version, options.threads, minutes)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    found = [asdict(point) for table in tables for point in table.points]
    return {"real_shapes": found, "minutes": minutes}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        print(json.dumps(run(options)))
    except VocabtrimError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
