"""Jobs, and what an author makes of them, with authors that need no model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vocabtrim.core.errors import CalibrationError, DecodeError
from vocabtrim.pipeline.answering import Answer, Assignment, Failure, Job, digest, make_jobs
from vocabtrim.tokens.prompts import Prompt

PROMPTS = [
    Prompt(name, ({"role": "user", "content": f"say {name}"},), domain)
    for name, domain in (("a", "x"), ("b", None), ("c", "x"))
]


class Author:
    """Answers all jobs but some, last first; remembers what it was asked."""

    def __init__(self, *, failing: Sequence[str] = (), dying_after: int = 1000) -> None:
        self.failing, self.dying_after = failing, dying_after
        self.asked: list[str] = []

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Answer | Failure]:
        self.asked.extend(job.key for job in jobs)
        return self._answers(jobs)

    def _answers(self, jobs: Sequence[Job]) -> Iterator[Answer | Failure]:
        for number, job in enumerate(reversed(jobs)):
            if number == self.dying_after:
                raise KeyboardInterrupt
            if job.key in self.failing:
                yield Failure(job.key, "no reason")
            else:
                yield Answer(job.key, f"said {job.key}", (6, 7, 2), "stop", "sha256:t")


def assign(output: Path, *, samples: int = 1, force: bool = False) -> Assignment:
    jobs = make_jobs(PROMPTS, samples, greedy=False)
    return Assignment(output, jobs, {"samples": samples}, "tiny", 5, force)


def lines_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_all_answers_are_written_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    ticks = iter([10.0, 14.0])
    result = assign(tmp_path / "out").carry_out(
        Author(), progress=lambda done, total: seen.append((done, total)), clock=lambda: next(ticks)
    )
    lines = lines_of(tmp_path / "out")
    assert [line["id"] for line in lines] == ["a", "b", "c"]
    assert lines[0] == {
        "id": "a",
        "domain": "x",
        "messages": [{"role": "user", "content": "say a"}],
        "completion": "said a",
        "completion_ids": [6, 7, 2],
        "finish_reason": "stop",
        "model": "tiny",
        "seed": 5,
        "tokenizer": "sha256:t",
    }
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (result.prompts, result.completions, result.continued) == (3, 3, 0)
    assert (result.new_tokens, result.without_ids, result.stopped) == (9, 0, 3)
    assert (result.seconds, result.tokens_per_second) == (4.0, 9 / 4.0)
    assert result.failures == ()


def test_failures_are_listed_in_order_and_asked_for_again(tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = assign(output).carry_out(Author(failing=["c", "a"]))
    assert [failure.key for failure in result.failures] == ["a", "c"]
    assert result.to_json()["generate"]["failures"][0] == {"key": "a", "reason": "no reason"}
    assert (result.completions, result.new_tokens) == (1, 3)
    assert not output.exists()
    again = Author()
    result = assign(output).carry_out(again)
    assert again.asked == ["a", "c"]
    assert (result.continued, result.completions, result.failures) == (1, 3, ())
    assert [line["id"] for line in lines_of(output)] == ["a", "b", "c"]
    assert not (tmp_path / "out.part").exists()


def test_an_interrupted_run_keeps_what_there_is(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        assign(output, samples=2).carry_out(Author(dying_after=4))
    again = Author()
    result = assign(output, samples=2).carry_out(again)
    assert again.asked == ["a/0", "a/1"]
    assert (result.prompts, result.completions, result.continued) == (3, 6, 4)


def test_a_complete_part_asks_nobody(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_text("in the way")
    with pytest.raises(Exception, match="exists"):
        assign(output).carry_out(Author())
    output.unlink()
    nobody = Author()
    result = assign(output).carry_out(nobody)
    assert nobody.asked == []
    assert (result.continued, result.seconds, result.tokens_per_second) == (3, 0.0, None)


def test_damaged_lines_are_named_and_asked_for_again(tmp_path: Path) -> None:
    output = tmp_path / "out"
    assign(output).carry_out(Author(failing=["a", "b"]))
    with (tmp_path / "out.part").open("a") as stream:
        stream.write('{"id": "b"}\n')
    result = assign(output).carry_out(Author())
    assert result.warnings == (
        f"1 damaged lines of {tmp_path / 'out.part'} were left out and asked for again",
    )
    assert len(lines_of(output)) == 3


def test_ids_that_nobody_knows_are_null_and_counted(tmp_path: Path) -> None:
    def author(jobs: Sequence[Job]) -> Iterator[Answer | Failure]:
        return (
            Answer(job.key, "text", None, "length", None, {"reasoning": "because"}) for job in jobs
        )

    result = assign(tmp_path / "out").carry_out(author)
    assert (result.new_tokens, result.without_ids, result.stopped) == (0, 3, 0)
    assert result.tokens_per_second is None
    line = lines_of(tmp_path / "out")[0]
    assert (line["completion_ids"], line["tokenizer"]) == (None, None)
    assert line["reasoning"] == "because"


def test_samples_are_named_and_greedy_ones_refused() -> None:
    assert list(make_jobs(PROMPTS[:1], 3, greedy=False)) == ["a/0", "a/1", "a/2"]
    assert list(make_jobs(PROMPTS, 1, greedy=True)) == ["a", "b", "c"]
    with pytest.raises(DecodeError, match="greedy samples are all the same"):
        make_jobs(PROMPTS, 2, greedy=True)
    with pytest.raises(DecodeError, match="at least 1"):
        make_jobs(PROMPTS, 0, greedy=False)


@pytest.mark.parametrize(
    "prompt",
    [Prompt("p", ({"role": "user", "content": "\ud83d"},)), Prompt("\ud83d", ())],
)
def test_half_a_character_is_refused_before_anything_is_asked(prompt: Prompt) -> None:
    with pytest.raises(CalibrationError, match="half a character"):
        make_jobs([prompt], 1, greedy=True)


def test_the_digest_is_of_ids_contents_and_order() -> None:
    same = digest({"a": [1, 2], "b": [3]})
    assert same == digest({"a": (1, 2), "b": (3,)})
    others = [{"b": [3], "a": [1, 2]}, {"a": [1], "b": [2, 3]}, {"a": [1, 2]}]
    assert len({same, *(digest(other) for other in others)}) == 4
