"""A Ray cluster as a crew: the same counting on many machines.

What is sent names ranges of files, and each machine reads its own; a compressed
file can be read from its beginning only, and so goes to one machine as a whole.
Files and tokenizer have to be there under the same names on all of them. Ray
does again what was on a machine or in a process that is lost, and outcomes come
back in order, so the counts are those of one machine to the bit, and a
checkpoint means the same.

Ray Data takes what is to be done as a list, so it gets it in waves.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vocabtrim.core.errors import EnvironmentFailure, MissingExtra, VocabtrimError
from vocabtrim.pipeline.counting.crew import Work
from vocabtrim.pipeline.counting.inputs import Rest, Task
from vocabtrim.pipeline.counting.tasks import Job, Outcome, TaskCounter
from vocabtrim.pipeline.counting.worker import SINGLE_THREADED
from vocabtrim.tokens.counting import TokenizerFacts

UNITS_IN_A_WAVE = 4096
UNITS_AT_ONCE = 8
"""What one Ray task does: enough to make up for the milliseconds that Ray takes for it."""


class Cluster:
    """A Ray cluster that counts, as a context.

    Args:
        job: What is asked for.
        address: Of the cluster, as of `ray.init`: "auto" for one that is there,
            "local" for one that is started for this count.

    Raises:
        MissingExtra: Ray is not installed.
        EnvironmentFailure: There is no such cluster.
        VocabtrimError: The job cannot be done, as of `TaskCounter`.
    """

    def __init__(self, job: Job, address: str) -> None:
        self._ray = _imported("ray")
        self._data = _imported("ray.data")
        self._faults: tuple[type[Exception], ...] = (
            self._ray.exceptions.RayError,
            ConnectionError,
        )
        self._asked = _Asked(job, Path.cwd())
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address)
        try:
            self.facts: TokenizerFacts = self._ask()
        except BaseException:
            self._leave()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the cluster, and end one that was started here."""
        self._leave()

    def outcomes(self, work: Work) -> Iterator[Outcome]:
        """Count, and yield the outcomes in the order of the data.

        Raises:
            VocabtrimError: What a task met.
            EnvironmentFailure: The cluster failed beyond what Ray repairs.
        """
        units = work.units()
        while wave := list(islice(units, UNITS_IN_A_WAVE)):
            for row in self._rows(wave):
                answer = pickle.loads(row["answer"])  # noqa: S301 (our own tasks wrote it)
                if isinstance(answer, VocabtrimError):
                    raise answer
                yield answer

    def _connect(self, address: str) -> None:
        faults: tuple[type[Exception], ...] = (*self._faults, ValueError, RuntimeError)
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except faults as fault:
            raise EnvironmentFailure(f"there is no Ray cluster at {address!r} ({fault})") from fault

    def _leave(self) -> None:
        if self._ours:
            self._ray.shutdown()

    def _ask(self) -> TokenizerFacts:
        """Return what a machine of the cluster says of the tokenizer."""
        try:
            answer = self._ray.get(self._ray.remote(_facts).remote(self._asked))
        except self._faults as fault:
            raise _failed(fault) from fault
        if isinstance(answer, VocabtrimError):
            raise answer
        facts: TokenizerFacts = answer
        return facts

    def _rows(self, wave: list[Task | Rest]) -> Iterator[dict[str, Any]]:
        # Ray reports every step to whoever listens, and warns of the bars left out
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"unit": pickle.dumps(unit)} for unit in wave]
        pieces = -(-len(rows) // UNITS_AT_ONCE)
        dataset = self._data.from_items(rows, override_num_blocks=pieces)
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        counted = dataset.map_batches(
            _answers, batch_size=UNITS_AT_ONCE, batch_format="numpy", fn_args=(self._asked,)
        )
        try:
            yield from counted.iter_rows()
        except self._faults as fault:
            raise _failed(fault) from fault


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as fault:
        raise MissingExtra("counting on a cluster needs Ray", "ray") from fault


def _failed(fault: Exception) -> EnvironmentFailure:
    return EnvironmentFailure(f"the Ray cluster failed ({type(fault).__name__}: {fault})")


@dataclass(frozen=True)
class _Asked:
    """What every process of the cluster has to know.

    Args:
        job: What is asked for.
        directory: Where the names of files begin that are not full.
    """

    job: Job
    directory: Path

    def counter(self) -> TaskCounter:
        """Return what counts in this process, opened once.

        Raises:
            EnvironmentFailure: The directory is not there on this machine.
            VocabtrimError: As of `TaskCounter`.
        """
        os.environ.update(SINGLE_THREADED)
        try:
            os.chdir(self.directory)
        except OSError as fault:
            raise EnvironmentFailure(
                f"{self.directory} is not there on every machine of the cluster ({fault.strerror})"
            ) from fault
        return _opened(self.job)


@cache
def _opened(job: Job) -> TaskCounter:
    return TaskCounter(job)


def _facts(asked: _Asked) -> TokenizerFacts | VocabtrimError:
    try:
        return asked.counter().facts
    except VocabtrimError as fault:
        return fault


def _answers(batch: dict[str, Any], asked: _Asked) -> Iterator[dict[str, Any]]:
    """Count units, in a process of the cluster; Ray knows no errors but its own."""
    try:
        counter = asked.counter()
        for packed in batch["unit"]:
            unit: Task | Rest = pickle.loads(packed)  # noqa: S301 (whoever asks wrote it)
            for task in unit.tasks() if isinstance(unit, Rest) else (unit,):
                yield {"answer": [pickle.dumps(counter.count(task))]}
    except VocabtrimError as fault:
        yield {"answer": [pickle.dumps(fault)]}
