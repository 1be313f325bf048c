"""A measurement whose every number is known: four arms, four prompts, three repeats."""

from __future__ import annotations

from pathlib import Path

from tests.serving import asker
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.results import ArmCost
from vocabtrim.engines.serving.answers import Answer
from vocabtrim.engines.serving.counters import Counted
from vocabtrim.pipeline.benching.arms import Arm, Drafter
from vocabtrim.pipeline.benching.result import BenchResult
from vocabtrim.pipeline.benching.rounds import Block, Rounds
from vocabtrim.pipeline.benching.summary import Summary

TARGET = ArmCost("T", StepCost(1000, 100, 1000, 100), 96)
PROMPTS, REPEATS, TOKENS = 4, 3, 21
SECONDS = {0: 1.0, 1: 1.02, 2: 2.0, 3: 1.6}
"""Of each arm's decoding: alone, again, full, trimmed."""

FACTS = {
    "base_url": None,
    "together": True,
    "servers": 4,
    "start_s": 1.5,
    "prompts": PROMPTS,
    "repeat": REPEATS,
    "max_new_tokens": 32,
}


def drafting(name: str, K: int) -> Arm:
    cost = ArmCost("T", TARGET.target_cost, 96, name, "eagle3", K, StepCost(200, K, 200, K), 7)
    return Arm(cost, Drafter(Path(name), "draft-eagle3", cost), 2)


ARMS = (Arm(TARGET), Arm(TARGET, is_twin=True), drafting("full", 96), drafting("trimmed", 32))


def block(arm: int, repeat: int, index: int, *, changed: bool = False, clock: bool = True) -> Block:
    ids = tuple(range(index, index + TOKENS - 1)) + ((99,) if changed else (7,))
    decode_s = SECONDS[arm] if clock else None
    answer = Answer(str(index), "", ids, TOKENS, SECONDS[arm] + 0.5, decode_s)
    counted = Counted(TOKENS, 10, 20, 10, (7, 3)) if arm > 1 else Counted(TOKENS)
    return Block(arm, repeat, index, 1, (answer,), answer.wall_s, counted)


def passing(arm: int, repeat: int) -> Block:
    answers = tuple(Answer(str(i), "", None, TOKENS, 1.0, None) for i in range(PROMPTS))
    wall = 3.0 - 0.5 * arm
    return Block(arm, repeat, 0, 4, answers, wall, Counted(PROMPTS * TOKENS, 40, 80, 40, (28, 12)))


def summed(blocks: list[Block], arms: tuple[Arm, ...] = ARMS) -> BenchResult:
    rounds = Rounds([], asker(), REPEATS)
    rounds.blocks, rounds.start_s = blocks, {0: [1.0, 2.0, 9.0]}
    rounds.peak_bytes = {2: 5_000_000}
    domains = ["a", "a", "b", None]
    return Summary(arms, rounds, domains).result("llama.cpp", "1", FACTS)


def everything(**given: bool) -> list[Block]:
    places = [(a, r, p) for a in range(4) for r in range(REPEATS) for p in range(PROMPTS)]
    return [block(*place, **given) for place in places]
