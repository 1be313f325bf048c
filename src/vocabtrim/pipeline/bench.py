"""`vocabtrim bench`: a pair on an inference engine that people serve with.

What is served, with and without a drafter, is started, asked in turns and ended;
tokens are those that the engine states, acceptance is by its own counters, and
the target alone is measured twice, for the noise that a gain has to beat. The
work is in `benching/`: arms, rounds, gains, the summary.

A server that somebody else has started is measured as it is: nothing can be
compared with it here, and it is left running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from vocabtrim.core.errors import CalibrationError, EnvironmentFailure, ServerError
from vocabtrim.engines.openai.asking import Ask
from vocabtrim.engines.openai.exchange import Endpoint, ExchangeError
from vocabtrim.engines.openai.wire import MalformedAnswer, read_models
from vocabtrim.engines.serving.answers import Asker
from vocabtrim.engines.serving.base import SERVERS, EngineError, Serve, Serving
from vocabtrim.engines.serving.interrupts import Interrupts
from vocabtrim.engines.serving.launch import Launcher, Limits, Server
from vocabtrim.pipeline.benching.arms import Arm, Pair, find_pair, foreign_arms
from vocabtrim.pipeline.benching.result import BenchResult
from vocabtrim.pipeline.benching.rounds import Advance, Rounds
from vocabtrim.pipeline.benching.summary import Summary
from vocabtrim.tokens.prompts import Prompt

MOST_CONCURRENCY = 256
TEMPLATE_TOKENS = 256
"""What a chat template adds to a prompt, at most, as far as contexts are planned."""

CONTEXT_STEP = 256
PROBE_S = 20.0


@dataclass(frozen=True)
class Plan:
    """How a measurement is made.

    Args:
        max_new_tokens: An answer, at most.
        repeat: Times that every arm answers every prompt.
        concurrency: Requests in flight of a second measurement; 1 for none.
        raw: Send texts as they are, without the server's chat template.
        one_at_a_time: Never have two servers up.
        limits: How long is waited for what.
        seed: Of the bootstrap.

    Raises:
        ServerError: A number is out of range.
    """

    max_new_tokens: int = 128
    repeat: int = 3
    concurrency: int = 1
    raw: bool = False
    one_at_a_time: bool = False
    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 2:
            raise ServerError(
                f"max_new_tokens must be at least 2, found {self.max_new_tokens}: the first "
                "token is prefill"
            )
        if self.repeat < 1:
            raise ServerError(f"repeat must be at least 1, found {self.repeat}")
        if not 1 <= self.concurrency <= MOST_CONCURRENCY:
            raise ServerError(
                f"concurrency must lie in 1 to {MOST_CONCURRENCY}, found {self.concurrency}"
            )


def bench(
    prompts: Sequence[Prompt],
    engine: Serving,
    target: str,
    drafters: Sequence[str],
    *,
    gammas: Sequence[int],
    plan: Plan,
    family: str | None = None,
    server_bin: Path | None = None,
    arguments: Sequence[str] = (),
    progress: Advance | None = None,
) -> BenchResult:
    """Serve a target without and with drafters, and compare.

    Args:
        prompts: At least one.
        engine: From `serving_named`.
        target: A file or directory, as the engine takes it, or a built-in name.
        drafters: The same; the first is what the others are compared with.
        gammas: Draft lengths, each at least 1.
        plan: How it is measured.
        family: Of the drafters, where one is of several.
        server_bin: The engine's program; None looks on the PATH.
        arguments: For the engine, passed through.
        progress: Called with (answers there, answers in all).

    Raises:
        EngineError: The engine is missing or too old, or refuses what it is given.
        EngineFailure: It runs out of memory, hangs, or ends.
        CheckpointError: Target or drafter are missing or damaged, or drafters are of
            different families.
        CalibrationError: There is no prompt, or one that cannot be sent.
        ServerError: A draft length is out of range, or a prompt is refused.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP; everything has been ended.
    """
    asks = _asks(prompts, raw=plan.raw)
    if drafters and (not gammas or min(gammas) < 1):
        raise ServerError("draft lengths must be 1 or more")
    interrupts = Interrupts()
    with interrupts.held():
        with interrupts.open():
            pair = find_pair(engine, target, drafters, family)
            program = engine.find(server_bin, [drafter.method for drafter in pair.drafters])
        arms = pair.arms(gammas if drafters else [])
        serves = [_serve(pair, arm, asks, plan, arguments) for arm in arms]
        rounds = _rounds(asks, plan, interrupts, progress)
        with _scratch() as scratch:
            launcher = Launcher(engine, program, scratch, plan.limits, interrupts)
            rounds.run(launcher, serves, one_at_a_time=plan.one_at_a_time)
        starts = [one for times in rounds.start_s.values() for one in times]
        facts = _facts(plan, prompts, arguments) | {
            "base_url": None,
            "servers": len(arms),
            "together": rounds.together,
            "start_s": median(starts) if starts else None,
        }
        summary = Summary(arms, rounds, [prompt.domain for prompt in prompts], plan.seed)
        return summary.result(engine.name, program.version, facts)


def bench_served(
    prompts: Sequence[Prompt],
    endpoint: Endpoint,
    *,
    plan: Plan,
    engine: Serving | None = None,
    model: str | None = None,
    progress: Advance | None = None,
) -> BenchResult:
    """Measure a server that is up already, and leave it up.

    Args:
        prompts: At least one.
        endpoint: Where it is.
        plan: How it is measured.
        engine: What it is; None asks it.
        model: Its name there; None takes the only one.
        progress: Called with (answers there, answers in all).

    Raises:
        EnvironmentFailure: Nobody listens there.
        EngineError: It does not say what it is.
        CalibrationError: There is no prompt, or one that cannot be sent.
        ServerError: It refuses a prompt, or which model is meant is not clear.
        EngineFailure: It gives no answer.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP.
    """
    asks = _asks(prompts, raw=plan.raw)
    interrupts = Interrupts()
    with interrupts.held():
        rounds = _rounds(asks, plan, interrupts, progress)
        with interrupts.open():
            named, kind = _model_at(endpoint, model)
        known = engine or _of_kind(kind, endpoint)
        server = Server(known, endpoint, named)
        rounds.ask([server, server])
        facts = _facts(plan, prompts, ()) | {
            "base_url": endpoint.url,
            "servers": 1,
            "together": False,
            "start_s": None,
        }
        arms = foreign_arms(named)
        summary = Summary(arms, rounds, [prompt.domain for prompt in prompts], plan.seed)
        return summary.result(known.name, "as it is served", facts)


def _rounds(
    asks: Sequence[Ask], plan: Plan, interrupts: Interrupts, progress: Advance | None
) -> Rounds:
    asker = Asker(plan.max_new_tokens, plan.raw, plan.limits.answer_s, interrupts)
    return Rounds(
        asks, asker, plan.repeat, plan.concurrency, progress or (lambda _done, _total: None)
    )


def _serve(
    pair: Pair, arm: Arm, asks: Sequence[Ask], plan: Plan, arguments: Sequence[str]
) -> Serve:
    # a token is at least a byte, so this is enough; the user's own argument comes later and wins
    longest = max(sum(len(str(one).encode()) for one in ask.messages) for ask in asks)
    needed = longest + TEMPLATE_TOKENS + plan.max_new_tokens
    drafter = arm.drafter
    return Serve(
        target=pair.target,
        drafter=None if drafter is None else drafter.path,
        method="" if drafter is None else drafter.method,
        gamma=arm.gamma,
        slots=plan.concurrency,
        context=-(-needed // CONTEXT_STEP) * CONTEXT_STEP,
        arguments=tuple(arguments),
    )


def _asks(prompts: Sequence[Prompt], *, raw: bool) -> list[Ask]:
    if not prompts:
        raise CalibrationError("there is no prompt to measure with")
    for prompt in prompts:
        if raw and prompt.text is None:
            raise CalibrationError(
                f"prompt {prompt.id} is a conversation, which only a chat template can "
                "write as text; give `prompt` instead of `messages`"
            )
    return [Ask(prompt.id, prompt.messages) for prompt in prompts]


def _facts(plan: Plan, prompts: Sequence[Prompt], arguments: Sequence[str]) -> dict[str, Any]:
    return {
        "prompts": len(prompts),
        "repeat": plan.repeat,
        "concurrency": plan.concurrency,
        "max_new_tokens": plan.max_new_tokens,
        "raw": plan.raw,
        "seed": plan.seed,
        "arguments": list(arguments),
        "processors": os.cpu_count(),
    }


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a directory for what servers write on the side, and remove it."""
    directory = Path(tempfile.mkdtemp(prefix="vocabtrim-bench-"))
    try:
        yield directory
    finally:
        # a process that is being ended may write into it at the same time
        shutil.rmtree(directory, ignore_errors=True)


def _model_at(endpoint: Endpoint, model: str | None) -> tuple[str, str | None]:
    """Return the name of the model that is asked, and what serves it."""
    try:
        reply = endpoint.send("/models", timeout_s=PROBE_S)
        listed = read_models(reply.body) if reply.status == 200 else {}
    except ExchangeError as fault:
        raise EnvironmentFailure(
            f"no server at {endpoint.url}: {fault.reason}; start it, or correct --base-url"
        ) from fault
    except MalformedAnswer:
        listed = {}
    if not listed:
        raise ServerError(
            f"{endpoint.url} lists no models, so it is no server of this protocol (a base URL "
            "often ends in /v1), or it refuses the key"
        )
    if model is None and len(listed) > 1:
        raise ServerError(f"{endpoint.url} serves {', '.join(listed)}: say which with --target")
    name = next(iter(listed)) if model is None else model
    if name not in listed:
        raise ServerError(f"{endpoint.url} serves {', '.join(listed)}, not {name!r}")
    return name, listed[name]


def _of_kind(kind: str | None, endpoint: Endpoint) -> Serving:
    engines: dict[str, Serving] = SERVERS.load_all()
    for engine in engines.values():
        if engine.kind == kind:
            return engine
    names = " or ".join(engine.name for engine in engines.values())
    raise EngineError(f"{endpoint.url} does not say that it is {names}: give --engine")
