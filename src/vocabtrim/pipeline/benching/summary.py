"""From blocks to a run for each arm, gains and verdicts.

Where one request was in flight, what is timed is decoding, by the engine's own
clock: prefill and HTTP are the same for every arm and would only dilute what
differs. An engine without such a clock is timed from outside, and says so. Where
several were in flight, it is the pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from vocabtrim.core.metrics import AcceptCounts, mbsu
from vocabtrim.core.results import Decoded, RunResult
from vocabtrim.engines.serving.counters import Counted, total
from vocabtrim.pipeline.benching.arms import Arm
from vocabtrim.pipeline.benching.gains import RESAMPLES, Gain, Ratio, Timed, noise_of, ratio_of
from vocabtrim.pipeline.benching.result import BenchResult, BenchRun, TextVerdict
from vocabtrim.pipeline.benching.rounds import Block, Rounds

OUTSIDE = "{name} does not say how long decoding takes, so rates are by our clock, prefill included"


@dataclass(eq=False)
class Summary:
    """All that was measured, arm by arm.

    Args:
        arms: In the order of their numbers; the second repeats the first.
        rounds: What was answered.
        domains: The domain of each prompt, where it has one.
        seed: Of the bootstrap.
    """

    arms: Sequence[Arm]
    rounds: Rounds
    domains: Sequence[str | None]
    seed: int = 0

    def __post_init__(self) -> None:
        singles = [block for block in self.rounds.blocks if block.concurrency == 1]
        self.by_engine = all(block.decode_s is not None for block in singles)

    def result(self, engine: str, version: str, facts: Mapping[str, Any]) -> BenchResult:
        """Return runs, gains and verdicts."""
        levels = sorted({block.concurrency for block in self.rounds.blocks})
        bases = {arm.gamma: number for number, arm in reversed(list(enumerate(self.arms)))}
        runs = [
            self._run(number, level, bases[arm.gamma])
            for level in levels
            for number, arm in enumerate(self.arms)
        ]
        gains = [gain for level in levels for gain in self._gains(level)]
        warnings = list(self.rounds.warnings)
        if not self.by_engine:
            warnings.append(OUTSIDE.format(name=engine))
        return BenchResult(
            engine,
            version,
            tuple(runs),
            tuple(gains),
            tuple(self._texts()),
            facts,
            tuple(warnings),
        )

    def _run(self, number: int, level: int, base: int) -> BenchRun:
        arm = self.arms[number]
        blocks = self._blocks(number, level)
        members = range(len(self.domains))
        parts: dict[str, list[int]] = {}
        for index, domain in enumerate(self.domains):
            if domain is not None and level == 1:
                parts.setdefault(domain, []).append(index)
        run = replace(
            self._of(number, level, members),
            batch=level,
            domains={name: self._of(number, level, part) for name, part in parts.items()},
        )
        counted = _counted(blocks)
        wall = [sum(block.new_tokens for block in blocks), sum(block.wall_s for block in blocks)]
        rate = run.tokens_per_second
        starts = self.rounds.start_s.get(number)
        compared = base != number and not arm.is_twin and arm.drafter is not None
        return BenchRun(
            run=run,
            is_twin=arm.is_twin,
            concurrency=level,
            time_per_token_ms=1000.0 / rate if rate else None,
            wall_tokens_per_second=wall[0] / wall[1] if wall[1] else None,
            drafted=None if counted is None else counted.drafted,
            accepted=None if counted is None else counted.accepted,
            same_text=self._same(number) if level == 1 and number else None,
            over_base=self._ratio([(number, base)], level) if compared else None,
            peak_memory_bytes=self.rounds.peak_bytes.get(number),
            start_s=median(starts) if starts else None,
        )

    def _of(self, number: int, level: int, members: Sequence[int]) -> RunResult:
        """Return a run over some of the prompts."""
        arm = self.arms[number]
        inside = set(members)
        blocks = [
            block for block in self._blocks(number, level) if level > 1 or block.index in inside
        ]
        first = [block for block in blocks if block.repeat == 0]
        rate = self._timed(number, level, members).rate
        plain = self._timed(0, level, members).rate
        decoded = Decoded(
            prompts=len(members),
            new_tokens=sum(block.new_tokens for block in first),
            counts=AcceptCounts.zero(arm.gamma),
            tokens_per_second=rate,
            noise=noise_of(self._timed(0, level, members), self._timed(1, level, members)),
            speedup=rate / plain if rate and plain else None,
        )
        plain_steps = sum(answer.new_tokens - 1 for block in first for answer in block.answers)
        return _with_counts(arm, decoded, _counted(first), plain_steps)

    def _timed(self, number: int, level: int, members: Sequence[int] | None = None) -> Timed:
        """Return tokens and seconds of an arm, [P, R]; [1, R] of passes."""
        blocks = self._blocks(number, level)
        rows = list(range(len(self.domains)) if members is None else members)
        if level > 1:
            rows = [0]
        place = {index: row for row, index in enumerate(rows)}
        shape = (len(rows), self.rounds.repeat)
        tokens, seconds = np.zeros(shape), np.zeros(shape)
        for block in blocks:
            if block.index not in place:
                continue
            at = place[block.index], block.repeat
            if level == 1 and self.by_engine:
                tokens[at] = block.new_tokens - len(block.answers)
                seconds[at] = block.decode_s or 0.0
            else:
                tokens[at], seconds[at] = block.new_tokens, block.wall_s
        return Timed(tokens, seconds)

    def _gains(self, level: int) -> list[Gain]:
        drafters = [arm for arm in self.arms if arm.drafter is not None]
        if not drafters:
            return []
        first = drafters[0].cost.drafter
        names = list(dict.fromkeys(arm.cost.drafter for arm in drafters))
        noise = noise_of(self._timed(0, level), self._timed(1, level))
        gains = []
        for name in names[1:]:
            pairs = self._pairs(name, first)
            by_gamma = {gamma: self._ratio([pair], level) for gamma, pair in pairs.items()}
            ratio = self._ratio(list(pairs.values()), level)
            known = {gamma: one for gamma, one in by_gamma.items() if one is not None}
            if ratio is not None and name and first:
                gains.append(Gain(name, first, level, known, ratio, noise))
        return gains

    def _pairs(self, name: str | None, first: str | None) -> dict[int, tuple[int, int]]:
        """Draft length to the numbers of a drafter's arm and of the first drafter's."""
        found = {(arm.cost.drafter, arm.gamma): number for number, arm in enumerate(self.arms)}
        lengths = sorted({arm.gamma for arm in self.arms if arm.drafter is not None})
        return {gamma: (found[name, gamma], found[first, gamma]) for gamma in lengths}

    def _ratio(self, pairs: Sequence[tuple[int, int]], level: int) -> Ratio | None:
        timed = [(self._timed(one, level), self._timed(other, level)) for one, other in pairs]
        # the same draws for every ratio, so that a table agrees with itself
        return ratio_of(timed, np.random.default_rng(self.seed), resamples=RESAMPLES)

    def _texts(self) -> list[TextVerdict]:
        drafters = [arm for arm in self.arms if arm.drafter is not None]
        first = drafters[0].cost.drafter if drafters else None
        names = list(dict.fromkeys(arm.cost.drafter for arm in drafters))
        verdicts = []
        for name in names[1:]:
            different = {
                gamma: (self._different(one), self._different(other))
                for gamma, (one, other) in self._pairs(name, first).items()
            }
            verdicts.append(TextVerdict(str(name), str(first), different, len(self.domains)))
        return verdicts

    def _different(self, number: int) -> int:
        same = self._same(number)
        return same["of"] - same["identical"]

    def _same(self, number: int) -> dict[str, int]:
        """Compare an arm's texts with the target's own; a text counts by its first repeat."""
        own = {block.index: block for block in self._blocks(0, 1) if block.repeat == 0}
        found = [block for block in self._blocks(number, 1) if block.repeat == 0]
        same = [block.answers[0].same_text(own[block.index].answers[0]) for block in found]
        return {"identical": sum(same), "of": len(same)}

    def _blocks(self, number: int, level: int) -> list[Block]:
        return [
            block
            for block in self.rounds.blocks
            if block.arm == number and block.concurrency == level
        ]


def _counted(blocks: Sequence[Block]) -> Counted | None:
    parts = [block.counted for block in blocks]
    known = [part for part in parts if part is not None]
    return total(known) if known and len(known) == len(parts) else None


def _with_counts(
    arm: Arm, decoded: Decoded, counted: Counted | None, plain_steps: int
) -> RunResult:
    """Return a run whose cycles are those that the engine counted."""
    run = arm.cost.run(decoded)
    if not arm.is_ours:
        run = replace(run, V=None, target_params=None)
    if counted is not None and counted.drafts:
        gamma = arm.gamma or len(counted.accepted_at)
        tau = counted.block_efficiency or 1.0
        return replace(
            run,
            gamma=gamma,
            cycles=counted.drafts,
            accepted_histogram=counted.histogram(gamma),
            block_efficiency=tau,
            acceptance_rate=counted.acceptance_rate,
            acceptance_by_position=counted.acceptance_by_position,
            mbsu=None if run.c is None else mbsu(tau, run.c, gamma),
            mbsu_read=None if run.c_read is None else mbsu(tau, run.c_read, gamma),
        )
    if arm.gamma == 0 and arm.is_ours:
        return replace(
            run,
            cycles=plain_steps,
            accepted_histogram=[plain_steps],
            block_efficiency=1.0,
            mbsu=1.0,
            mbsu_read=1.0,
        )
    return replace(run, cycles=None, accepted_histogram=None, acceptance_by_position=None)
