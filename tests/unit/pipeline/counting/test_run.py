"""A run: it continues, it falls back, and what it keeps is always a whole number of tasks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.calibration import put_records
from vocabtrim.core.errors import BackendMismatch, EnvironmentFailure, OutputExists
from vocabtrim.pipeline.counting import checkpoint as keeping
from vocabtrim.pipeline.counting import crew as crews
from vocabtrim.pipeline.counting import inputs as cutting
from vocabtrim.pipeline.counting.checkpoint import Checkpoint, Request
from vocabtrim.pipeline.counting.crew import Alone, Work
from vocabtrim.pipeline.counting.inputs import Inputs
from vocabtrim.pipeline.counting.run import Counted, Progress, Run
from vocabtrim.pipeline.counting.tasks import Job, Outcome

REQUEST = Request({}, {})
DIFFER = BackendMismatch("gigatoken 99", "é", found=[1], expected=[2])


class Failing(Alone):
    """Counts so many tasks and then fails; "tokenizers" never does.

    Args:
        job: What is asked for.
        after: Tasks counted before.
        fault: What is raised then.
    """

    def __init__(self, job: Job, after: int, fault: BaseException) -> None:
        super().__init__(job)
        self._after, self._fault, self._job = after, fault, job

    def outcomes(self, work: Work) -> Iterator[Outcome]:
        for number, outcome in enumerate(super().outcomes(work)):
            if number == self._after and self._job.backend == "auto":
                raise self._fault
            yield outcome


@pytest.fixture
def inputs(place: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Nine files, each a task, and a checkpoint after every one."""
    monkeypatch.setattr(cutting, "TASK_BYTES", 1)
    monkeypatch.setattr(crews, "SMALL_TASKS", 0)
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN", 0)
    for number in range(9):
        put_records(f"data/{number}.jsonl", 100, seed=number)
    return Inputs.find(["data/?.jsonl"], {"third": "", "even": "*[02468].jsonl"})


def run(inputs: Inputs, **options: Any) -> Run:
    job = Job(Path("t"), named=frozenset({"third"}))
    return Run(inputs, job, Checkpoint(Path("out"), REQUEST), **{"crew": Alone, **options})


def totals(counted: Counted) -> Any:
    return counted.tally.sums.total("t", counted.facts.special)


def test_a_run_that_fails_is_continued_to_the_same_sums(inputs: Inputs) -> None:
    whole = run(inputs).count(None)
    for after in range(9):
        Path("out.part").unlink(missing_ok=True)
        crew = partial(Failing, after=after, fault=EnvironmentFailure("a worker was lost"))
        with pytest.raises(EnvironmentFailure, match="a worker was lost") as caught:
            run(inputs, crew=crew).count(None)
        assert ("kept in out.part" in str(caught.value)) == (after > 0)
        begun = Checkpoint(Path("out"), REQUEST).begun()
        assert (begun is None) == (after == 0)
        told: list[Progress] = []
        counted = run(inputs, progress=told.append).count(begun)
        assert totals(counted) == totals(whole)
        assert counted.tally == type(whole.tally)(
            **{**vars(whole.tally), "sums": counted.tally.sums}
        )
        assert len(told) == 9 - after


def test_an_interrupt_keeps_what_was_kept_before(inputs: Inputs) -> None:
    notices: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(
            inputs, crew=lambda job: Failing(job, 4, KeyboardInterrupt()), notice=notices.append
        ).count(None)
    assert notices == ["stopped; what was counted is kept in out.part: run the same command again"]
    begun = Checkpoint(Path("out"), REQUEST).begun()
    assert begun is not None
    assert begun.tally.place.file == 3


def test_where_backends_disagree_all_is_counted_again_by_the_reference(inputs: Inputs) -> None:
    notices: list[str] = []
    fault = DIFFER

    def crew(job: Job) -> Failing:
        return Failing(job, 5, fault)

    whole = run(inputs).count(None)
    counted = run(inputs, crew=crew, notice=notices.append).count(None)
    assert counted.mismatch == str(fault)
    assert totals(counted) == totals(whole)
    assert len(notices) == 1
    assert "counting again from the beginning" in notices[0]
    # what is continued after that goes on with the reference, and remembers why
    begun = Checkpoint(Path("out"), REQUEST).begun()
    assert begun is not None
    again = run(inputs, crew=crew).count(begun)
    assert again.mismatch == str(fault)
    assert totals(again) == totals(whole)


def test_what_the_fast_backend_left_is_not_continued_after_a_mismatch(inputs: Inputs) -> None:
    """The part is gone before the reference begins: a kill in between finds nothing."""
    lost = EnvironmentFailure("lost")
    with pytest.raises(EnvironmentFailure):
        run(inputs, crew=lambda job: Failing(job, 5, lost)).count(None)
    begun = Checkpoint(Path("out"), REQUEST).begun()
    parts: list[bool] = []

    class Reference(Failing):
        def __init__(self, job: Job) -> None:
            if job.backend == "tokenizers":
                parts.append(Path("out.part").exists())
            super().__init__(job, 0, DIFFER)

    counted = run(inputs, crew=Reference).count(begun)
    assert parts == [False]
    assert totals(counted) == totals(run(inputs).count(None))


def test_data_that_is_read_once_cannot_be_counted_again(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inputs, "read_once", property(lambda _: True))
    with pytest.raises(BackendMismatch):
        run(inputs, crew=lambda job: Failing(job, 2, DIFFER)).count(None)
    with pytest.raises(EnvironmentFailure, match="nothing was kept, for standard input"):
        run(inputs, crew=lambda job: Failing(job, 2, EnvironmentFailure("lost"))).count(None)


def test_another_backend_does_not_continue(inputs: Inputs) -> None:
    with pytest.raises(EnvironmentFailure):
        run(inputs, crew=lambda job: Failing(job, 5, EnvironmentFailure("lost"))).count(None)
    begun = Checkpoint(Path("out"), REQUEST).begun()
    assert begun is not None
    other = type(begun)(begun.tally, begun.tokenizer, "gigatoken 99", "")
    with pytest.raises(OutputExists, match=r"begun with gigatoken 99, not .*--restart"):
        run(inputs).count(other)


def test_little_is_counted_here(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "SMALL_TASKS", 100)

    def none(_: Job) -> Alone:
        raise AssertionError("no crew is needed")

    assert run(inputs, crew=none).count(None).tally.documents > 0
