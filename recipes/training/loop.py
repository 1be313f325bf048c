"""The training loop: hours of steps that may be stopped at any one of them.

A step is a function of the weights and its number alone: which batch it visits,
which ids are drawn for its softmax and its learning rate all follow from the
number and the seed. So a checkpoint holds no random state, and a run that is
killed continues as if it had not been.

Batches come in blocks. The target runs once on each batch of a block, when it
is first needed, and the block is visited `echo` times, each time in another
order, before the next one (data echoing, Choi et al., arXiv 1907.05550): the
target's pass is most of a step's cost. The rate is constant after a warm-up,
over any number of sessions (warmup-stable-decay, Hägele et al., 2405.18392);
when asked, a decay of a given time follows on a copy of the state, so that the
constant run can go on later. The last twentieth of all steps of a decayed run
uses the full softmax.
"""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.training.corpus import Batch, Visits
from recipes.training.head_loss import Draw, Proposal
from recipes.training.state import CONSTANT, DECAYED, Settings, State, Store, locked
from recipes.training.task import StepLoss, Task
from recipes.training.teacher import Lesson
from vocabtrim.core.errors import ArtifactError
from vocabtrim.decode.model import DTYPES

SAY_SECONDS = 20.0
Say = Callable[[str], None]


def train(
    task: Task,
    settings: Settings,
    work: Path,
    *,
    visits: Visits,
    proposal: Proposal,
    heldout: Sequence[Batch],
    data: str,
    new_data: bool = False,
    say: Say = print,
) -> State:
    """Train until a limit of the settings, a signal, or the end of a decay.

    Continues what lies in `work`, and leaves there the state, the learning
    curve, and the drafter as of the last checkpoint.

    Args:
        task: The drafter.
        settings: How.
        work: Directory of the run; one process at a time.
        visits: Order of the batches.
        proposal: Ids of the softmax.
        heldout: Batches of the curve.
        data: Fingerprint of the data.
        new_data: Go on where the data has changed.
        say: Takes a line of progress.

    Raises:
        OutputExists: Another process trains here.
        ArtifactError: The state is of another drafter or other data.
    """
    with locked(work), _stopping() as stopped:
        run = _Run(task, settings, work, say)
        run.take(visits, proposal, heldout)
        run.resume(data, new_data=new_data)
        run.evaluate()
        began, saved = run.state.seconds, time.monotonic()
        while not stopped() and not run.finished(began):
            run.step()
            run.evaluate()
            if time.monotonic() - saved >= 60 * settings.checkpoint_minutes:
                run.save()
                saved = time.monotonic()
        run.evaluate(always=True)
        run.save()
        return run.state


class _Run:
    """A task between two steps."""

    def __init__(self, task: Task, settings: Settings, work: Path, say: Say) -> None:
        self.task, self.settings, self.work, self.say = task, settings, work, say
        self.state = State()
        self.store = Store(work, CONSTANT if settings.decay_minutes is None else DECAYED)
        self.parameters = dict(task.module.named_parameters())
        groups: list[dict[str, Any]] = [
            {"params": [one for one in self.parameters.values() if one.ndim > 1]},
            {
                "params": [one for one in self.parameters.values() if one.ndim < 2],
                "weight_decay": 0,
            },
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            betas=(0.9, 0.95),
            weight_decay=settings.weight_decay,
        )
        device = next(iter(self.parameters.values())).device.type
        dtype = DTYPES[settings.dtype]
        self._precision = torch.autocast(device, dtype, enabled=dtype != torch.float32)
        self._recent: deque[float] = deque(maxlen=2 * settings.block)
        self._said = 0.0

    def _clock(self) -> float:
        """Seconds: on a CPU those that it spent on this, whatever else it did meanwhile."""
        if all(one.device.type == "cpu" for one in self.parameters.values()):
            return time.process_time() / torch.get_num_threads()
        return time.perf_counter()

    def take(self, visits: Visits, proposal: Proposal, heldout: Sequence[Batch]) -> None:
        """Set the data; the target runs on what is held out."""
        self.lessons, self.proposal = _Lessons(self.task, visits, self.settings), proposal
        self.heldout = [self.task.teacher.teach(batch) for batch in heldout]

    def resume(self, data: str, *, new_data: bool) -> None:
        """Load what this run continues; plan a decay where one is asked for."""
        constant = Store(self.work, CONSTANT)
        base, own = constant.read_state(), self.store.read_state()
        minutes = self.settings.decay_minutes
        if minutes is not None and (own is None or base is None or own.decay != base.step):
            # no decay of this constant run has begun
            self.store.write_curve(constant.curve())
            own = base
            source = constant
        else:
            source = self.store
        if own is not None:
            self.state = own
            source.load(self.parameters, self.optimizer)
            if own.data != data and not new_data:
                raise ArtifactError(
                    f"{self.work} was trained on other data ({own.data} against {data}); "
                    "go on with --new-data, or give another --work"
                )
        self.state = replace(self.state, data=data)
        if minutes is not None and self.state.decay < 0:
            length = self.state.decay_length(minutes, self.settings.full_share)
            self.state = replace(self.state, decay=self.state.step, length=length)
        # points that were made after the state which is continued
        self.store.write_curve([p for p in self.store.curve() if p["step"] <= self.state.step])
        self.say(f"{self.work}: {self.state}")

    def finished(self, began: float) -> bool:
        """Whether a limit is reached; the session began at that training time."""
        limits, state = self.settings, self.state
        return (
            (limits.minutes is not None and state.seconds - began >= 60 * limits.minutes)
            or (limits.steps is not None and state.step >= limits.steps)
            or (state.end is not None and state.step >= state.end)
        )

    def step(self) -> None:
        """Make one optimiser step."""
        begun, state, settings = self._clock(), self.state, self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = state.rate(settings, state.step)
        measured = np.zeros((self.task.steps, 3))
        tokens = 0
        self.task.module.train()
        for part in range(settings.accumulate):
            lesson = self.lessons.of(state.step, part)
            with self._precision:
                losses = list(self.task.losses(lesson, self._draw(part)))
            total = torch.stack([one.weight * one.total for one in losses]).sum()
            positions = max(1, len(losses[0].choices)) * settings.accumulate
            (total / positions).backward()  # type: ignore[no-untyped-call]
            measured += _measured(losses)
            tokens += lesson.batch.n_tokens
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        seconds = self._clock() - begun
        if self._recent:
            # a process that was paused does not count the pause as training
            seconds = min(seconds, 3 * max(self._recent))
        self._recent.append(seconds)
        self.state = replace(
            state,
            step=state.step + 1,
            visits=state.visits + tokens,
            seconds=state.seconds + seconds,
        )
        self._tell(measured, tokens / seconds)

    def evaluate(self, *, always: bool = False) -> None:
        """Add a point to the curve where one is due: held-out text, full softmax."""
        step, points = self.state.step, self.store.curve()
        due = step % self.settings.evaluate == 0 or (step >= 4 and step & (step - 1) == 0)
        if not (due or always) or (points and points[-1]["step"] == step):
            return
        self.task.module.eval()
        with torch.no_grad():
            every = [_measured(self.task.losses(one, None)) for one in self.heldout]
        measured = np.sum(every, axis=0)
        point = {
            "step": step,
            "minutes": round(self.state.seconds / 60, 3),
            "visits": self.state.visits,
            "loss": round(float(measured[0, 0] / measured[0, 2]), 4),
            "agreement": [round(float(right / n), 4) for _, right, n in measured],
            "positions": int(measured[0, 2]),
            "rate": self.state.rate(self.settings, max(0, step - 1)),
            "data": self.state.data,
        }
        self.store.write_curve([*points, point])
        self.say(f"held out: {json.dumps(point)}")

    def save(self) -> None:
        """Write the state and the drafter."""
        self.store.save(self.state, self.parameters, self.optimizer)
        self.task.save(self.store.drafter)

    def _draw(self, part: int) -> Draw | None:
        step = self.state.step
        if self.state.full(self.settings, step):
            return None
        seed = (self.settings.seed << 40) + step * self.settings.accumulate + part
        return self.proposal.draw(self.task.teacher.head, seed)

    def _tell(self, measured: NDArray[np.float64], speed: float) -> None:
        now, state = time.monotonic(), self.state
        if now - self._said < SAY_SECONDS:
            return
        self._said = now
        loss, right, n = (measured[:, one] for one in range(3))
        agreement = " ".join(f"{one:.3f}" for one in right / np.maximum(n, 1))
        self.say(
            f"step {state.step}  {state.seconds / 60:.1f} min  {state.visits / 1e6:.2f}M tokens  "
            f"loss {loss[0] / max(n[0], 1):.3f}  agreement {agreement}  "
            f"{speed:.0f} tokens/s  rate {state.rate(self.settings, state.step - 1):.1e}"
        )


class _Lessons:
    """Which batch each step visits, and what the target said about it."""

    def __init__(self, task: Task, visits: Visits, settings: Settings) -> None:
        self._task, self._visits, self._settings = task, visits, settings
        self._number = -2
        self._batches: list[Batch] = []
        self._lessons: dict[int, Lesson] = {}
        self._stream: Iterator[Batch] = iter(())

    def of(self, step: int, part: int) -> Lesson:
        """Return the lesson of a step, running the target where it has not run yet."""
        settings = self._settings
        number, place = divmod(step, settings.block * settings.echo)
        turn, place = divmod(place, settings.block)
        if turn:
            order = np.random.default_rng([settings.seed, number, turn])
            place = int(order.permutation(settings.block)[place])
        if number != self._number:
            self._enter(number)
        index = place * settings.accumulate + part
        if index not in self._lessons:
            self._lessons[index] = self._task.teacher.teach(self._batches[index])
        return self._lessons[index]

    def _enter(self, number: int) -> None:
        size = self._settings.block * self._settings.accumulate
        if number != self._number + 1:
            self._stream = self._visits.batches(number * size)
        self._number, self._lessons = number, {}
        self._batches = [next(self._stream) for _ in range(size)]


def _measured(losses: Any) -> NDArray[np.float64]:
    """[steps, 3]: sum of losses, right choices, positions."""
    return np.array([_row(one) for one in losses])


def _row(one: StepLoss) -> tuple[float, int, int]:
    right = int((one.choices == one.greedy).sum())
    return float(one.total.detach()), right, len(one.choices)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a request to stop after the step."""
    asked: list[int] = []
    before = {
        one: signal.signal(one, lambda number, _: asked.append(number))
        for one in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
