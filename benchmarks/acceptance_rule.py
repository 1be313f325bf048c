"""Selection by acceptance against frequency, at equal rows, on held-out prompts.

    python benchmarks/acceptance_rule.py --trace CALIBRATION --held-out TRACE
        --counts target=COUNTS --counts raw=COUNTS --counts drafter=COUNTS

Traces are those of `vocabtrim trace`, of one drafter on prompts of calibration
and on others. For every kind of counts and every K, both rules choose as many
rows, `acceptance` with the calibration trace; `first` needs no data, and `bound`
chooses on the held-out prompts themselves, which nobody can. What is shown is τ
on the held-out prompts at each draft length, and the gain over frequency with a
95 % interval over prompts, pairs resampled together. Positions that the held-out
trace leaves open (`trace --resolve` looks them up) are taken as refused. No model
runs; seconds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import PluginError, VocabtrimError
from vocabtrim.core.trace import Trace
from vocabtrim.core.trace_file import read_trace
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.replay.replay import OpenPositions, Replayed, accepted, runs, walk
from vocabtrim.rules.acceptance import Acceptance
from vocabtrim.rules.base import Evidence
from vocabtrim.rules.first import First
from vocabtrim.rules.top_k import TopK

SIZES = (512, 1024, 2048, 4096, 8192)
GAMMAS = (1, 2, 4)
RESAMPLES = 2000


def replayed(trace: Trace, vocab: DraftVocab, gammas: Sequence[int]) -> tuple[list[Replayed], int]:
    """Return what decoding comes to, and how many open positions were taken as refused."""
    inside, opened = vocab.over(trace.vocab_size).t2d, 0
    try:
        found = accepted(trace, inside)
    except OpenPositions as fault:
        opened = len(fault.rows)
        found = inside[trace.wanted] & trace.ranked & ~trace.undecided
        positions, ids = trace.rivals
        found.ravel()[positions[inside[ids]]] = False
    return walk(trace, runs(trace, found), gammas), opened


def difference(
    ours: Replayed, theirs: Replayed, generator: np.random.Generator
) -> tuple[float, float, float]:
    """Return τ of ours over theirs less 1, with its interval over prompts."""
    tokens = ours.tokens.astype(float)
    cycles = [one.accepted.sum(axis=1).astype(float) for one in (ours, theirs)]
    picks = generator.integers(0, tokens.size, size=(RESAMPLES, tokens.size))
    ratios = cycles[1][picks].sum(axis=1) / cycles[0][picks].sum(axis=1) - 1
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(cycles[1].sum() / cycles[0].sum() - 1), float(low), float(high)


def compare(
    name: str, counts: TokenCounts, seen: Trace, held: Trace, gammas: Sequence[int]
) -> list[dict[str, Any]]:
    """Compare the rules at every K and draft length."""
    kept: NDArray[np.int64] = KeepIds().of(counts)
    rows = []
    for K in SIZES:
        if not kept.size <= K <= counts.vocab_size:
            continue
        longest = max(gammas)
        plain, both = Evidence(counts), Evidence(counts, trace=seen)
        vocabs = {
            "frequency": TopK(K).select(plain, kept),
            "acceptance": Acceptance(K, gamma=longest).select(both, kept),
            "first": First(K).select(plain, kept),
            "bound": Acceptance(K, gamma=longest, strength=0.01).select(
                Evidence(counts, trace=held), kept
            ),
        }
        found = {rule: replayed(held, vocab, gammas) for rule, vocab in vocabs.items()}
        for index, gamma in enumerate(gammas):
            ours, theirs = (found[rule][0][index] for rule in ("acceptance", "frequency"))
            gain, low, high = difference(ours, theirs, np.random.default_rng(0))
            rows.append(
                {
                    "counts": name,
                    "K": vocabs["frequency"].size,
                    "gamma": gamma,
                    **{
                        rule: one[index].pooled.block_efficiency for rule, (one, _) in found.items()
                    },
                    "gain": gain,
                    "low": low,
                    "high": high,
                    "open": max(opened for _, opened in found.values()),
                }
            )
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    print(
        "counts            K  γ  frequency  acceptance  first  bound   acceptance ÷ frequency − 1"
    )
    for one in rows:
        print(
            f"{one['counts']:<12} {one['K']:>6,}  {one['gamma']}  {one['frequency']:>9.3f}  "
            f"{one['acceptance']:>10.3f}  {one['first']:.3f}  {one['bound']:.3f}   "
            f"{one['gain']:+.2%} [{one['low']:+.2%}, {one['high']:+.2%}]"
        )


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trace", type=Path, required=True, help="on calibration prompts")
    parser.add_argument("--held-out", type=Path, required=True, help="trace on other prompts")
    parser.add_argument("--counts", action="append", required=True, metavar="NAME=FILE")
    options = parser.parse_args(arguments)
    try:
        (seen, _), (held, manifest) = (read_trace(one) for one in (options.trace, options.held_out))
        if shared := {one.name for one in seen.texts} & {one.name for one in held.texts}:
            raise PluginError(f"prompt {min(shared)} is in both traces, so it is not held out")
        gammas = [gamma for gamma in GAMMAS if gamma <= min(seen.max_gamma, held.max_gamma)]
        rows = []
        for pair in options.counts:
            name, _, path = pair.partition("=")
            counts, _ = read_counts(Path(path), tokenizer=held.tokenizer)
            rows += compare(name, counts, seen, held, gammas)
    except VocabtrimError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    show(rows)
    facts = {
        "drafter": manifest.facts.get("drafter", ""),
        "calibration_tokens": sum(int(one.tokens.size) for one in seen.texts),
        "held_out_prompts": len(held.texts),
    }
    print(json.dumps({"acceptance_rule": facts | {"rows": rows}}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
