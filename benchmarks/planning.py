"""Is planning cheap, and is the plan right? Against decoding, in one run.

    python benchmarks/planning.py [--drafter demo-eagle3] [--limit 8] [--clock cpu]

For each prompt, one after another: the target answers; the answer is traced; a
round of latencies is timed; and the prompt is decoded without a drafter and at
ten points (K, γ). So all of it sees the same machine. Then, from what was
traced and timed alone, the ratio to autoregressive decoding is predicted for each of
the ten points, and the fastest is picked.

Said at the end: how much faster a token is traced (for drafts of up to 8) than
decoded, with the full drafter at γ = 4 and at the fastest of the ten points; what a
surface of 8 K × 8 γ costs, the trace included, beside decoding the prompts once;
how many predictions are within 10 % of what was measured; how far the point picked
is from the best one measured. The last line is JSON. `--clock cpu` counts the
process's own seconds, for a machine that others use; it needs OMP_NUM_THREADS=1.
About seven minutes for 8 prompts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.core.trace import TracedText
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.pair import Pair, open_pair
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.replay.plan import Point, plan, surface
from vocabtrim.replay.replay import Nested, Replayed
from vocabtrim.rules.base import Evidence
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.prompts import Prompt, PromptEncoder, read_prompts

GAMMAS = (1, 2, 3, 4, 6)
SMALL, USUAL = 2048, 4
GRID_SIZES, GRID_GAMMAS = 8, tuple(range(1, 9))
WIDTH = 32
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Spent:
    """Seconds and tokens of decoding the prompts in one way."""

    seconds: float = 0.0
    tokens: int = 0
    whole: float = 0.0

    @property
    def per_token(self) -> float:
        """Seconds a token of decoding, prefill left out."""
        return self.seconds / self.tokens


@dataclass(eq=False)
class Run:
    """Everything that is measured, prompt by prompt.

    Args:
        pair: Target and drafter.
        order: [V] ids, as vocabularies take them.
        small: The smaller of the two K.
        budget: New tokens a prompt.
        clock: Seconds since whenever.
    """

    pair: Pair
    order: np.ndarray[Any, np.dtype[np.int64]]
    small: int
    budget: int
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        from vocabtrim.decode.drafters.base import ReducedHead
        from vocabtrim.replay.latency import Meter
        from vocabtrim.replay.trace import Tracer

        head, rows = self.pair.drafter.head, self.pair.cost.head_rows
        vocab = DraftVocab.from_ids(self.order[: self.small], head.vocab.vocab_size)
        bias = None if head.bias is None else head.bias[vocab.ids.copy()]
        smaller = ReducedHead(head.weight[vocab.ids.copy()], vocab, bias)
        self.heads = {self.small: smaller, rows: head}
        self.meter = Meter(
            self.pair.target,
            self.pair.drafter,
            sizes=[self.small, rows],
            gammas=GAMMAS,
            context=96,
            clock=self.clock,
        )
        self.tracer = Tracer(
            self.pair.target,
            self.pair.drafter,
            max_gamma=max(GRID_GAMMAS),
            width=WIDTH,
            tokenizer=self.pair.tokenizer,
        )
        self.points = [(K, gamma) for K in self.heads for gamma in GAMMAS]
        self.spent = {point: Spent() for point in [(0, 0), *self.points]}
        self.traced_s = 0.0
        self.texts: list[TracedText] = []
        self.rows: list[Any] = []

    def prompt(self, prompt: Prompt, ids: Sequence[int]) -> None:
        """Do all of it for one prompt."""
        tokens = self._decode((0, 0), ids)
        text = TracedText(
            prompt.id, "", np.array(ids), np.array(tokens, dtype=np.int64), self.budget
        )
        self.pair.drafter.head = self.heads[max(self.heads)]
        began = self.clock()
        self.rows.append(self.tracer.rows(text))
        self.traced_s += self.clock() - began
        self.texts.append(text)
        self.meter.round()
        # the order rotates, so that no point is always the first to follow another
        shift = len(self.texts) % len(self.points)
        for point in [*self.points[shift:], *self.points[:shift]]:
            self._decode(point, ids)

    def warm_up(self, ids: Sequence[int]) -> None:
        """Decode a few tokens at every point, and forget it."""
        for point in self.spent:
            self._decode(point, ids, budget=4)
            self.spent[point] = Spent()

    def _decode(
        self, point: tuple[int, int], ids: Sequence[int], budget: int | None = None
    ) -> tuple[int, ...]:
        from vocabtrim.decode.chain import speculate

        size, gamma = point
        if size:
            self.pair.drafter.head = self.heads[size]
        began = self.clock()
        text = speculate(
            self.pair.target if size else self.meter.plain,
            self.pair.drafter if size else None,
            list(ids),
            gamma=gamma,
            max_new_tokens=budget or self.budget,
            clock=self.clock,
        )
        spent = self.spent[point]
        spent.whole += self.clock() - began
        spent.seconds += text.decode_s
        spent.tokens += text.counts.tokens
        return text.token_ids


def verdict(run: Run) -> dict[str, Any]:
    """Predict from what was traced and timed, and compare with what was decoded."""
    trace = run.tracer.join(run.texts, run.rows)
    nested, latency = Nested(trace, trace.order(run.order)), run.meter.latency()

    def replayed(size: int) -> list[Replayed]:
        return nested.replay(size, GAMMAS, refuse_open=True)

    points = surface(replayed, list(run.heads), latency)
    plain = run.spent[0, 0].per_token
    measured = {point: plain / run.spent[point].per_token for point in run.points}
    rows = [_row(one, measured[one.K, one.gamma]) for one in points]
    picked = plan(points, trace.head_rows, latency).best
    best = max(measured.values())
    fastest = min((run.spent[point] for point in run.points), key=lambda one: one.per_token)
    usual = run.spent[max(run.heads), USUAL]
    grid_s = _grid_seconds(nested, trace.head_rows, run.clock)
    tokens = sum(int(text.tokens.size) for text in run.texts)
    trace_s = run.traced_s / tokens
    return {
        "prompts": len(run.texts),
        "tokens": tokens,
        "noise": latency.noise,
        "points": rows,
        "within_10_percent": sum(
            abs(one["predicted"] / one["measured"] - 1) <= 0.1 for one in rows
        ),
        "of": len(rows),
        "picked": {"K": picked.K, "gamma": picked.gamma},
        "picked_over_best": measured[picked.K, picked.gamma] / best,
        "traced_over_decoded": usual.whole / tokens / trace_s,
        "traced_over_fastest": fastest.whole / tokens / trace_s,
        "surface_points": GRID_SIZES * len(GRID_GAMMAS),
        "surface_s": run.traced_s + grid_s,
        "run_s": usual.whole,
        "fastest_run_s": fastest.whole,
    }


def _row(point: Point, measured: float) -> dict[str, Any]:
    return {
        "K": point.K,
        "gamma": point.gamma,
        "block_efficiency": point.block_efficiency,
        "predicted": point.speedup,
        "measured": measured,
    }


def _grid_seconds(nested: Nested, rows: int, clock: Callable[[], float]) -> float:
    """Return the seconds of replaying a surface of 8 K × 8 γ."""
    began = clock()
    for shift in range(GRID_SIZES):
        nested.replay(max(1, rows >> shift), GRID_GAMMAS, refuse_open=True)
    return clock() - began


def show(found: dict[str, Any]) -> None:
    """Print the table and what follows."""
    print(f"{found['prompts']} prompts, {found['tokens']} tokens, noise {found['noise']:.1%}")
    print("      K  γ      τ  predicted  measured")
    for one in found["points"]:
        off = one["predicted"] / one["measured"] - 1
        print(
            f"{one['K']:>7,}  {one['gamma']}  {one['block_efficiency']:.3f}  "
            f"{one['predicted']:>9.3f}  {one['measured']:>8.3f}  {off:+.1%}"
        )
    print(f"within 10 %: {found['within_10_percent']} of {found['of']}")
    print(
        f"picked K = {found['picked']['K']:,}, γ = {found['picked']['gamma']}: "
        f"{found['picked_over_best']:.3f} of the best measured"
    )
    print(
        f"a token is traced {found['traced_over_decoded']:.1f} times as fast as decoded at γ = "
        f"{USUAL}, {found['traced_over_fastest']:.1f} times as fast as at the fastest point"
    )
    print(
        f"{found['surface_points']} points, trace included: {found['surface_s']:.1f} s; decoding "
        f"once: {found['run_s']:.1f} s, at the fastest point {found['fastest_run_s']:.1f} s"
    )


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="demo")
    parser.add_argument("--drafter", default="demo-eagle3")
    parser.add_argument("--prompts", type=Path, help="JSONL; the demo's held-out prompts without")
    parser.add_argument("--counts", type=Path, help="counts; the demo's without")
    parser.add_argument("--limit", type=int, default=8, help="prompts")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--small", type=int, default=SMALL, help="the smaller of the two K")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args(arguments)
    try:
        found = measure(options)
    except VocabtrimError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    show(found)
    print(json.dumps({"planning": {"drafter": options.drafter} | found}))
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Open the pair, go through the prompts, and return what it comes to."""
    target = locate(options.target)
    pair = open_pair(target, locate(options.drafter))
    with tempfile.TemporaryDirectory() as scratch:
        counts = options.counts or _shipped(Path(scratch))
        read, _ = read_counts(counts, tokenizer=pair.tokenizer)
    order = Evidence(read).ranking(KeepIds().of(read))
    prompts = read_prompts([options.prompts]) if options.prompts else _held_out()
    chosen, encoder = prompts[: options.limit], PromptEncoder(target)
    run = Run(pair, order, options.small, options.new_tokens, CLOCKS[options.clock])
    run.warm_up(encoder.encode(chosen[0]).tolist())
    for number, prompt in enumerate(chosen, 1):
        run.prompt(prompt, encoder.encode(prompt).tolist())
        print(f"{number} of {len(chosen)} prompts", file=sys.stderr)
    return verdict(run)


def _shipped(scratch: Path) -> Path:
    packed = files("vocabtrim.demo").joinpath("counts.safetensors.gz").read_bytes()
    (scratch / "counts.safetensors").write_bytes(gzip.decompress(packed))
    return scratch / "counts.safetensors"


def _held_out() -> list[Prompt]:
    """Return the demo's held-out prompts, every domain in its turn."""
    path = Path(str(files("vocabtrim.demo") / "prompts.jsonl"))
    held = [
        json.loads(line)["id"]
        for line in path.read_text(encoding="utf-8").splitlines()
        if json.loads(line)["split"] == "heldout"
    ]
    by_domain: dict[str, list[Prompt]] = {}
    for prompt in read_prompts([path]):
        if prompt.id in held:
            by_domain.setdefault(prompt.domain or "", []).append(prompt)
    return [prompt for turn in zip(*by_domain.values(), strict=False) for prompt in turn]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
