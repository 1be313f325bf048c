"""How the demo chooses K and γ: a trace and a plan for each drafter.

The target answers calibration prompts that were not counted, once for both
drafters. Each drafter is drafted along the answers and timed on this machine,
and the plan of both is the choice. Positions that a trace leaves open are looked
up while the models are there, so that every size is answered exactly. What
`trace`, `bench --micro` and `plan` would write is left beside everything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.core.latency_file import Latencies
from vocabtrim.core.trace import TracedText
from vocabtrim.core.trace_file import write_trace
from vocabtrim.pipeline.bench_micro import time_pair
from vocabtrim.pipeline.pair import Pair, open_pair
from vocabtrim.pipeline.plan import plan_pair
from vocabtrim.pipeline.planning import PlannedPoint, PlanResult
from vocabtrim.pipeline.replay import nested_of
from vocabtrim.tokens.prompts import Prompt, PromptEncoder

GAMMAS = (1, 2, 3, 4)
WIDTH = 32
CONTEXT = 64
ROUNDS = 5
TIMED = (256, 4096, 16_384)
"""K that are timed, besides all rows."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """What was chosen for one drafter.

    Args:
        drafter: Its name.
        plan: How that came about.
    """

    drafter: str
    plan: PlanResult

    @property
    def point(self) -> PlannedPoint:
        """The fastest point with fewer than all rows, which is what a demo of trimming shows."""
        rows = self.plan.head_rows
        points = [one for one in self.plan.choice.points if rows > one.K]
        return max(points, key=lambda one: one.speedup)

    def to_json(self) -> dict[str, Any]:
        """Return the choice with its plan."""
        found = {"drafter": self.drafter, "K": self.point.K, "gamma": self.point.gamma}
        return found | self.plan.to_json()

    def lines(self) -> list[str]:
        """Return the surface and the verdict; a demo has too few prompts to speak of domains."""
        return replace(self.plan, drift=()).lines()


def choose(
    output: Path,
    target: Path,
    drafters: Mapping[str, Path],
    counts: Path,
    prompts: Sequence[Prompt],
    *,
    sizes: Sequence[int],
    new_tokens: int,
) -> list[Choice]:
    """Plan every drafter.

    Args:
        output: Directory for traces, latencies and plans.
        target: Directory of the target.
        drafters: Name to directory.
        counts: From which vocabularies are chosen.
        prompts: That were not counted.
        sizes: K to choose from.
        new_tokens: Of each answer.
    """
    from vocabtrim.decode.model import load_model

    model = load_model(target)
    texts = _answers(model, target, prompts, new_tokens)
    choices = []
    for name, path in drafters.items():
        pair = open_pair(target, path, model=model)
        trace = output / f"{name}-trace.safetensors"
        _trace(pair, name, texts, counts, trace)
        latencies = _time(pair, name)
        document = json.dumps(latencies.to_json(), indent=2) + "\n"
        (output / f"{name}-latency.json").write_text(document, encoding="utf-8")
        below = [size for size in sizes if size < pair.cost.head_rows]
        planned = plan_pair([trace], counts, latency=latencies, sizes=below, gammas=GAMMAS)
        choices.append(Choice(name, planned))
    return choices


def _answers(
    model: Any, target: Path, prompts: Sequence[Prompt], new_tokens: int
) -> list[TracedText]:
    """Let the target answer, greedily and all at once."""
    from vocabtrim.decode.batch import Request, generate_batched
    from vocabtrim.decode.sampling import Sampling

    encoder = PromptEncoder(target)
    asked = {prompt.id: encoder.encode(prompt) for prompt in prompts}
    requests = [Request(key, tuple(ids.tolist()), new_tokens) for key, ids in asked.items()]
    wrote = generate_batched(model, requests, sampling=Sampling(), batch_size=len(requests))
    tokens = {one.key: np.array(one.token_ids, dtype=np.int64) for one in wrote}
    return [
        TracedText(one.id, one.domain or "", asked[one.id], tokens[one.id], new_tokens)
        for one in prompts
    ]


def _trace(pair: Pair, name: str, texts: Sequence[TracedText], counts: Path, output: Path) -> None:
    from vocabtrim.replay.trace import Tracer, resolved

    tracer = Tracer(
        pair.target,
        pair.drafter,
        max_gamma=max(GAMMAS),
        width=WIDTH,
        tokenizer=pair.tokenizer,
    )
    trace = tracer.trace(texts)
    trace = resolved(tracer, trace, nested_of(trace, counts)[0].open)
    facts = {"target": "demo", "drafter": name, "cost": pair.cost.to_json()}
    write_trace(output, trace, inputs={}, options={"width": WIDTH}, facts=facts)


def _time(pair: Pair, name: str) -> Latencies:
    rows = pair.cost.head_rows
    return time_pair(
        pair,
        ("demo", name),
        sizes=[*(size for size in TIMED if size < rows), rows],
        gammas=GAMMAS,
        batches=[1],
        context=CONTEXT,
        rounds=ROUNDS,
    )
