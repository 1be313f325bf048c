"""Who counts: this process, processes of this machine, or a cluster.

A crew takes what is to be counted and gives the outcomes in the order of the
data, which is what makes the result, and every checkpoint on the way, the same
whoever counts. It knows the tokenizer; the process that asks it to count need
not open one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from types import TracebackType
from typing import Protocol, Self

from vocabtrim.pipeline.counting.inputs import Inputs, Place, Rest, Task
from vocabtrim.pipeline.counting.tasks import Job, Outcome, TaskCounter
from vocabtrim.tokens.counting import TokenizerFacts

SMALL_TASKS = 4
"""Fewer tasks than these are counted here: starting processes takes longer."""


class Work:
    """Data from a place on, to be taken in one of two ways.

    Args:
        inputs: What is counted.
        place: Where to begin.
        passing: What tasks go through on their way.
    """

    def __init__(
        self,
        inputs: Inputs,
        place: Place,
        passing: Callable[[Iterator[Task]], Iterator[Task]] = lambda tasks: tasks,
    ) -> None:
        self._inputs, self._place = inputs, place
        self._rest = passing(inputs.tasks(place))
        # standard input cannot be cut twice, so what has been looked at is kept
        self._first: list[Task] = []

    def is_little(self) -> bool:
        """Whether it is done before other processes have started."""
        self._first += islice(self._rest, SMALL_TASKS - len(self._first))
        return len(self._first) < SMALL_TASKS

    def tasks(self) -> Iterator[Task]:
        """Yield it as tasks that hold their data; once."""
        return chain(self._first, self._rest)

    def units(self) -> Iterator[Task | Rest]:
        """Yield it as names of what is to be read.

        Raises:
            CalibrationError: A file can be read here only.
        """
        return self._inputs.units(self._place)


class Crew(Protocol):
    """Counts while its context is open."""

    facts: TokenizerFacts
    """What has to be known of the tokenizer."""

    def __enter__(self) -> Self:
        """Return itself."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End whoever counts, finished or not."""
        ...

    def outcomes(self, work: Work) -> Iterator[Outcome]:
        """Count, and yield the outcomes in the order of the data.

        Raises:
            CalibrationError: A file cannot be read.
            BackendMismatch: The fast backend and the reference disagree.
            EnvironmentFailure: A process or machine was lost.
        """
        ...


class Alone:
    """This process as a crew of one.

    Args:
        job: What is asked for.
    """

    def __init__(self, job: Job) -> None:
        self._counter = TaskCounter(job)
        self.facts: TokenizerFacts = self._counter.facts

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: there is nothing to end."""

    def outcomes(self, work: Work) -> Iterator[Outcome]:
        """Count one task after the other."""
        return map(self._counter.count, work.tasks())
