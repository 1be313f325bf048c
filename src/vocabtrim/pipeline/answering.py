"""Prompts to be answered, whoever answers them, and what came of it.

`generate` has several authors: the target itself, a drafter, a server. They
share this: a job for each line to be made (prompts times samples), a part that
keeps what there is (`pipeline/part.py`), and a result that names every job that
has no answer. An author is asked only for what is missing; it yields answers
and failures in any order, as they come.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CalibrationError, DecodeError
from vocabtrim.pipeline.part import Part
from vocabtrim.tokens.prompts import Prompt

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One line to be made.

    Args:
        key: Its id: the prompt's, with `/0`, `/1`, … behind it for samples.
        prompt: What is asked.
    """

    key: str
    prompt: Prompt


@dataclass(frozen=True)
class Answer:
    """What a job came to.

    Args:
        key: Of the job.
        completion: The text.
        completion_ids: What the model emitted, a final EOS included; None where
            nobody can say.
        finish_reason: "stop" for an EOS, "length" where room ran out, or what
            else a server calls it.
        tokenizer: Fingerprint of the tokenizer whose ids they are proved to be.
        extra: Further keys of the line.
    """

    key: str
    completion: str
    completion_ids: tuple[int, ...] | None
    finish_reason: str
    tokenizer: str | None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Failure:
    """A job without an answer.

    Args:
        key: Of the job.
        reason: Why there is none.
    """

    key: str
    reason: str


Author = Callable[[Sequence[Job]], Iterator[Answer | Failure]]
"""Answers jobs; loading is done when it returns, and generating as it is iterated."""


@dataclass(frozen=True)
class GenerateResult:
    """What a run of generation came to.

    Args:
        output: The JSONL file written, or to be written once nothing is missing.
        model: Name of the author.
        prompts: Prompts asked.
        completions: Lines there are; prompts times samples, less failures.
        continued: Lines that an earlier, interrupted run had made.
        failures: Jobs without an answer, in their order. Where there is one,
            `output` is not written: what there is stays in `output`.part, and
            the same command asks for the rest.
        prompt_tokens: Of the prompts, by the target's tokenizer; None where a
            server encodes them.
        new_tokens: Generated, EOS included, in all lines whose ids are known.
        without_ids: Lines whose ids are not known.
        stopped: Lines that ended with an EOS id; the others ran out of room.
        seconds: Of this run's generation, without loading.
        tokens_per_second: New tokens of this run over `seconds`; None for none.
        warnings: Substitutes that were made.
    """

    output: str
    model: str
    prompts: int
    completions: int
    continued: int
    failures: tuple[Failure, ...]
    prompt_tokens: int | None
    new_tokens: int
    without_ids: int
    stopped: int
    seconds: float
    tokens_per_second: float | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        lists = {"failures": [asdict(one) for one in self.failures], "warnings": [*self.warnings]}
        return {"generate": asdict(self) | lists}


def make_jobs(prompts: Iterable[Prompt], samples: int, *, greedy: bool) -> dict[str, Job]:
    """Return the lines to be made by their ids, in order.

    Raises:
        DecodeError: There is no sample, or several of the same greedy text.
        CalibrationError: A prompt is no text that could be written or sent.
    """
    if samples < 1:
        raise DecodeError(f"samples must be at least 1, found {samples}")
    if samples > 1 and greedy:
        raise DecodeError("greedy samples are all the same; give a temperature above 0")
    jobs: dict[str, Job] = {}
    for prompt in prompts:
        _check_text(prompt)
        # ids are unique, so these are too: what stands behind the last slash has none
        for sample in range(samples):
            key = prompt.id if samples == 1 else f"{prompt.id}/{sample}"
            jobs[key] = Job(key, prompt)
    return jobs


def digest(contents: Mapping[str, Any]) -> str:
    """Return "sha256:…" of what each line to be made is asked with, in order."""
    document = json.dumps([[key, content] for key, content in contents.items()])
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


@dataclass(frozen=True)
class Assignment:
    """A run of generation, before anybody has been asked.

    Args:
        output: JSONL to write; `OUT.part` beside it until it is complete.
        jobs: Lines to be made, as `make_jobs` returns them.
        request: What `OUT.part` has to have been begun with, as JSON.
        model: Name of the author in each line.
        seed: Root of all draws, in each line.
        force: Replace `output`, and start over where `OUT.part` differs.
    """

    output: Path
    jobs: Mapping[str, Job]
    request: Mapping[str, Any]
    model: str
    seed: int
    force: bool

    def carry_out(
        self,
        author: Author,
        *,
        progress: Advance | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> GenerateResult:
        """Ask for what is missing, keep what comes, and write the output if it is all.

        Raises:
            OutputExists: `OUT.part` was begun otherwise, or is being written.
            ArtifactError: `OUT.part` is damaged.
            EnvironmentFailure: The disk is full; what is there is kept.
        """
        failures: dict[str, Failure] = {}
        seconds = 0.0
        with Part.open(self.output, self.request, self.jobs, force=self.force) as part:
            missing = [job for key, job in self.jobs.items() if key not in part.lines]
            if missing:
                answers = author(missing)
                began = clock()
                for answer in answers:
                    if isinstance(answer, Failure):
                        failures[answer.key] = answer
                        continue
                    part.append(self._line(answer))
                    if progress is not None:
                        progress(len(part.lines), len(self.jobs))
                seconds = clock() - began
            if not failures:
                part.finish(self.output, self.jobs, force=self.force)
        return self._result(part, [job.key for job in missing], failures, seconds)

    def _line(self, answer: Answer) -> dict[str, Any]:
        prompt, ids = self.jobs[answer.key].prompt, answer.completion_ids
        return {
            "id": answer.key,
            "domain": prompt.domain,
            "messages": list(prompt.messages),
            "completion": answer.completion,
            "completion_ids": None if ids is None else list(ids),
            "finish_reason": answer.finish_reason,
            "model": self.model,
            "seed": self.seed,
            "tokenizer": answer.tokenizer,
            **(answer.extra or {}),
        }

    def _result(
        self,
        part: Part,
        asked: Sequence[str],
        failures: Mapping[str, Failure],
        seconds: float,
    ) -> GenerateResult:
        lengths = {key: len(line["completion_ids"] or ()) for key, line in part.lines.items()}
        fresh = sum(lengths.get(key, 0) for key in asked)
        again = f"{part.damaged} damaged lines of {part.path} were left out and asked for again"
        return GenerateResult(
            output=str(self.output),
            model=self.model,
            prompts=len({job.prompt.id for job in self.jobs.values()}),
            completions=len(part.lines),
            continued=len(self.jobs) - len(asked),
            failures=tuple(failures[key] for key in asked if key in failures),
            prompt_tokens=None,
            new_tokens=sum(lengths.values()),
            without_ids=sum(line["completion_ids"] is None for line in part.lines.values()),
            stopped=sum(line["finish_reason"] == "stop" for line in part.lines.values()),
            seconds=seconds,
            tokens_per_second=fresh / seconds if seconds and fresh else None,
            warnings=(again,) if part.damaged else (),
        )


def _check_text(prompt: Prompt) -> None:
    try:
        json.dumps([prompt.id, *prompt.messages], ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as fault:
        raise CalibrationError(
            f"prompt {prompt.id!r} has half a character in it (a lone surrogate); correct it"
        ) from fault
