"""One count from where it stands to its end: cut, count, add up, put away.

Everything that depends on something else having happened is here: data that is
small is counted in this process; what another run left is continued; where the
fast backend and the reference disagree, all that the fast one counted is thrown
away and the reference counts from the beginning. Whatever ends a run before its
time, what was added up is kept, where it can be continued.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from vocabtrim.core.errors import BackendMismatch, EnvironmentFailure, OutputExists
from vocabtrim.pipeline.counting.checkpoint import BEGIN_ANEW, Begun, Checkpoint
from vocabtrim.pipeline.counting.crew import Alone, Crew, Work
from vocabtrim.pipeline.counting.inputs import Inputs, Place, Task
from vocabtrim.pipeline.counting.tally import Tally
from vocabtrim.pipeline.counting.tasks import Job
from vocabtrim.tokens.counting import TokenizerFacts
from vocabtrim.tokens.id_counts import RunningCounts


@dataclass(frozen=True)
class Progress:
    """How far a count is.

    Args:
        done: Stored bytes counted.
        total: Stored bytes in all, None where that is unknown.
        read: Bytes that were counted since this run began, unpacked.
        tokens: Tokens counted since then.
        distinct: Ids seen at least once, in all.
        seconds: Time since then.
    """

    done: int
    total: int | None
    read: int
    tokens: int
    distinct: int
    seconds: float


@dataclass(frozen=True)
class Counted:
    """What a run came to.

    Args:
        tally: All of the data.
        facts: Of the tokenizer.
        mismatch: Why the fast backend was given up; empty where it was not.
    """

    tally: Tally
    facts: TokenizerFacts
    mismatch: str


@dataclass(frozen=True)
class Run:
    """One run of a count.

    Args:
        inputs: What is counted.
        job: How.
        checkpoint: Where the tally is kept.
        crew: Makes who counts where there is more than a little.
        strict: A record that is left out is an error.
        progress: Told after every task how far the work is.
        notice: Told what a user should know at once, as a sentence.
        passing: What tasks go through on their way.
        clock: Seconds since whenever.
    """

    inputs: Inputs
    job: Job
    checkpoint: Checkpoint
    crew: Callable[[Job], Crew]
    strict: bool = False
    progress: Callable[[Progress], None] = lambda _: None
    notice: Callable[[str], None] = lambda _: None
    passing: Callable[[Iterator[Task]], Iterator[Task]] = lambda tasks: tasks
    clock: Callable[[], float] = time.perf_counter

    def count(self, begun: Begun | None) -> Counted:
        """Count what is left.

        Args:
            begun: What was counted before.

        Raises:
            CalibrationError: Data cannot be read or used; names file and line.
            BackendMismatch: The backends disagree, and the data cannot be read
                again.
            EnvironmentFailure: A worker or a disk failed; what was counted is kept.
            OutputExists: `begun` was counted with another backend.
        """
        if begun is not None and begun.mismatch:
            return self._count(replace(self.job, backend="tokenizers"), begun, begun.mismatch)
        try:
            return self._count(self.job, begun, "")
        except BackendMismatch as fault:
            if self.inputs.read_once:
                raise
            self.checkpoint.remove()
            self.notice(f"{fault}; counting again from the beginning with the reference")
            return self._count(replace(self.job, backend="tokenizers"), None, str(fault))

    def _count(self, job: Job, begun: Begun | None, mismatch: str) -> Counted:
        place = Place.BEGINNING if begun is None else begun.tally.place
        work = Work(self.inputs, place, self.passing)
        with Alone(job) if work.is_little() else self.crew(job) as crew:
            if begun is None:
                domains = self.inputs.patterns
                tally = Tally(RunningCounts(crew.facts.vocab_size, domains))
            else:
                self._same_backend(begun, crew.facts)
                tally = begun.tally
            try:
                self._add_up(tally, crew, work, mismatch)
            except EnvironmentFailure as fault:
                self.checkpoint.save(tally, crew.facts, mismatch)
                raise EnvironmentFailure(f"{fault}{self._kept()}") from fault
            except KeyboardInterrupt:
                # it may have come in the middle of an addition, so nothing is saved here
                self.notice(f"stopped{self._kept()}")
                raise
        tally.end_file()
        return Counted(tally, crew.facts, mismatch)

    def _add_up(self, tally: Tally, crew: Crew, work: Work, mismatch: str) -> None:
        began, tokens_before, read = self.clock(), tally.tokens, 0
        for outcome in crew.outcomes(work):
            tally.add(outcome, strict=self.strict)
            read += outcome.size
            self.checkpoint.save_if_due(tally, crew.facts, mismatch)
            self.progress(
                Progress(
                    self.inputs.done(tally.place),
                    self.inputs.size,
                    read,
                    tally.tokens - tokens_before,
                    tally.distinct,
                    self.clock() - began,
                )
            )

    def _same_backend(self, begun: Begun, facts: TokenizerFacts) -> None:
        if begun.backend != facts.backend:
            raise OutputExists(
                self.checkpoint.path,
                f"it was begun with {begun.backend}, not {facts.backend}; {BEGIN_ANEW}",
            )

    def _kept(self) -> str:
        """Return what to say of the part."""
        if self.inputs.read_once:
            return "; nothing was kept, for standard input cannot be read again"
        if not self.checkpoint.path.exists():
            return ""
        return f"; what was counted is kept in {self.checkpoint.path}: run the same command again"
