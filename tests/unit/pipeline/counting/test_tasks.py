"""A task to its outcome: everything in it is counted, or left out with a reason."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.calibration import as_counter, ids_of, put
from vocabtrim.core.errors import CalibrationError, TokenizerError
from vocabtrim.pipeline.counting.inputs import Inputs, Place, Task
from vocabtrim.pipeline.counting.tasks import Job, Outcome, TaskCounter
from vocabtrim.sources.records import OTHER_TOKENIZER
from vocabtrim.tokens.chat import NO_ASSISTANT
from vocabtrim.tokens.id_counts import RunningCounts


def task_of(*data: str, **patterns: str) -> Task:
    (task,) = Inputs.find(list(data), patterns).tasks()
    return task


def by_domain(outcome: Outcome, counter: TaskCounter) -> dict[str, Counter[int]]:
    sums = RunningCounts(counter.facts.vocab_size)
    sums.add(outcome.batch)
    total = sums.total(counter.facts.fingerprint, counter.facts.special)
    return {"": as_counter(total)} | {
        name: as_counter(part) for name, part in total.domains.items()
    }


def test_an_outcome_says_all_there_is_to_say(place: Path) -> None:
    put("data/bad.jsonl", b'{"text": "an"}\n{"text": \n[1]\n')
    counter = TaskCounter(Job(Path("t"), named=frozenset({"extra"})))
    task = task_of("data", code="*code*")
    outcome = counter.count(task)
    text = Path("data/a.txt").read_text()
    assert by_domain(outcome, counter) == {
        "": ids_of(text, "an", "an ant<|im_end|>", "the = 1", "a"),
        "code": ids_of("the = 1", "a"),
        "extra": ids_of("a"),
    }
    assert outcome.batch.empty == 2
    assert outcome.batch.warnings == {NO_ASSISTANT: 1}
    assert [(one.file, one.line) for one in outcome.skipped] == [
        ("data/bad.jsonl", 2),
        ("data/bad.jsonl", 3),
    ]
    assert list(outcome.usable.items()) == [
        ("data/a.txt", 1),
        ("data/bad.jsonl", 1),
        ("data/chat.jsonl", 2),
        ("data/code.jsonl", 3),
    ]
    assert outcome.stop == Place(4, 0, 1)
    assert outcome.size == sum(path.stat().st_size for path in Path("data").iterdir())


def test_a_task_without_its_data_gives_the_same(place: Path) -> None:
    counter = TaskCounter(Job(Path("t")))
    task = task_of("data")
    light = pickle.loads(pickle.dumps(task.without_data()))
    assert all(piece.block.data is None for piece in light.pieces)
    first, second = counter.count(task), counter.count(light)
    assert by_domain(first, counter) == by_domain(second, counter)
    assert (first.usable, first.size) == (second.usable, second.size)


def test_warnings_are_counted_by_document(place: Path) -> None:
    record = {"completion": "the", "completion_ids": [1], "tokenizer": "sha256:other"}
    put("other.jsonl", [record] * 3)
    counter = TaskCounter(Job(Path("t")))
    assert counter.count(task_of("other.jsonl")).batch.warnings == {OTHER_TOKENIZER: 3}


def test_the_options_of_a_job(place: Path) -> None:
    put("loop.jsonl", [{"text": "an", "other": "\n\n" * 10}])
    capped = TaskCounter(Job(Path("t"), cap_per_document=4, field="other"))
    found = by_domain(capped.count(task_of("loop.jsonl")), capped)[""]
    assert list(found.values()) == [4]
    users = TaskCounter(Job(Path("t"), role="user"))
    assert by_domain(users.count(task_of("data/chat.jsonl")), users)[""] == ids_of("the a", "the a")


def test_a_file_that_goes_away_is_named(place: Path) -> None:
    counter, task = TaskCounter(Job(Path("t"))), task_of("data/code.jsonl").without_data()
    Path("data/code.jsonl").unlink()
    with pytest.raises(CalibrationError, match=r"data/code\.jsonl: it cannot be .* \(No such"):
        counter.count(task)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tokenizer": Path("nowhere")}, TokenizerError),
        ({"role": "bot"}, CalibrationError),
        ({"cap_per_document": 0}, CalibrationError),
    ],
)
def test_a_job_that_cannot_be_done(
    place: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        TaskCounter(Job(**{"tokenizer": Path("t"), **options}))
