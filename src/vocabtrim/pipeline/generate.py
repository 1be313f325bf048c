"""`vocabtrim generate`: prompts to what the target answers, as JSONL.

Text that the target itself wrote is the best calibration data (VocabTrim,
arXiv 2506.22694), and a lot of it is needed, so this verb is batched and can be
stopped at any time: each answer is one line, flushed at once, in `OUT.part`,
and the same command goes on from there. When all are there, `OUT` is written
in the order of the prompts, whatever order they ended in.

The first line of `OUT.part` says what was asked for; another command does not
continue it. How tokens are chosen is `decode/sampling.py`, how rows share a
batch `decode/batch.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import (
    ArtifactError,
    DecodeError,
    EnvironmentFailure,
    OutputExists,
)
from vocabtrim.core.manifest import atomic_file, refuse_existing
from vocabtrim.tokens.prompts import Prompt, PromptEncoder, read_prompts

if TYPE_CHECKING:
    from vocabtrim.decode.batch import Completion, Request

Advance = Callable[[int, int], None]

HEADER = "vocabtrim generate"


@dataclass(frozen=True)
class GenerateResult:
    """What a run of generation came to.

    Args:
        output: The JSONL file written.
        model: Name of the target.
        prompts: Prompts answered.
        completions: Lines, prompts times samples.
        continued: Lines that an earlier, interrupted run had made.
        prompt_tokens: Of the prompts, by the target's tokenizer.
        new_tokens: Generated, EOS included, in all lines.
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
    prompt_tokens: int
    new_tokens: int
    stopped: int
    seconds: float
    tokens_per_second: float | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"generate": asdict(self) | {"warnings": list(self.warnings)}}


def generate(
    prompts: Sequence[Path],
    target: Path,
    output: Path,
    *,
    max_new_tokens: int,
    model: str | None = None,
    limit: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    dtype: str = "float32",
    raw: bool = False,
    force: bool = False,
    progress: Advance | None = None,
) -> GenerateResult:
    """Answer every prompt and write the answers to `output`.

    Args:
        prompts: PROMPTS files.
        target: Directory of the model.
        output: JSONL to write; `OUT.part` beside it until it is complete.
        max_new_tokens: Per answer, at least 1.
        model: Name of the target in each line; its directory's by default.
        limit: Answer only the first so many prompts.
        temperature: 0 is greedy.
        top_k: Ids kept before the nucleus.
        top_p: Mass of the nucleus.
        samples: Answers a prompt; above 1, their ids end in `/0`, `/1`, …
        seed: Root of all draws; each depends on it, the id and the position.
        batch_size: Rows of a pass.
        dtype: Of the model: "float32", "bfloat16" or "float16".
        raw: Leave the chat template out.
        force: Replace `output`, and start over where `OUT.part` differs.
        progress: Called with (lines there, lines in all).

    Raises:
        OutputExists: `output` is there, or `OUT.part` was begun otherwise.
        CalibrationError: A prompt cannot be used.
        DecodeError: The model cannot be used, or an option is out of range.
        EnvironmentFailure: The disk is full; what is there is kept.
    """
    from vocabtrim.decode.sampling import Sampling

    refuse_existing(output, force=force)
    if samples < 1 or batch_size < 1 or max_new_tokens < 1 or (limit is not None and limit < 1):
        raise DecodeError("max_new_tokens, samples, batch_size and limit must be at least 1")
    sampling = Sampling(temperature, top_k, top_p, seed)
    if samples > 1 and sampling.greedy:
        raise DecodeError("greedy samples are all the same; give a temperature above 0")
    chosen = read_prompts(prompts)[:limit]
    encoder = PromptEncoder(target, raw=raw)
    jobs = _jobs(chosen, encoder, samples)
    run = _Run(
        model=model if model is not None else target.name,
        seed=seed,
        fingerprint=encoder.tokenizer.fingerprint,
        decode=encoder.tokenizer.decode,
    )
    header = {
        HEADER: {
            "model": run.model,
            "tokenizer": run.fingerprint,
            "prompts": _digest(jobs),
            "max_new_tokens": max_new_tokens,
            "dtype": dtype,
            **asdict(sampling),
        }
    }
    part = _Part.open(output.with_name(output.name + ".part"), header, jobs, force=force)
    missing = [job for key, job in jobs.items() if key not in part.lines]
    seconds = 0.0
    if missing:
        from vocabtrim.decode.batch import generate_batched
        from vocabtrim.decode.model import load_model

        loaded = load_model(target, dtype)
        requests = [job.request(max_new_tokens) for job in missing]
        began = time.perf_counter()
        for completion in generate_batched(
            loaded, requests, sampling=sampling, batch_size=batch_size
        ):
            part.append(run.line(jobs[completion.key], completion))
            if progress is not None:
                progress(len(part.lines), len(jobs))
        seconds = time.perf_counter() - began
    part.finish(output, jobs, force=force)
    fresh = sum(len(part.lines[job.key]["completion_ids"]) for job in missing)
    return GenerateResult(
        output=str(output),
        model=run.model,
        prompts=len(chosen),
        completions=len(jobs),
        continued=len(jobs) - len(missing),
        prompt_tokens=sum(len(job.prompt_ids) for job in jobs.values()),
        new_tokens=sum(len(line["completion_ids"]) for line in part.lines.values()),
        stopped=sum(line["finish_reason"] == "stop" for line in part.lines.values()),
        seconds=seconds,
        tokens_per_second=fresh / seconds if seconds else None,
        warnings=_warnings(encoder, raw=raw),
    )


@dataclass(frozen=True)
class _Job:
    """One line to be made."""

    key: str
    prompt: Prompt
    prompt_ids: tuple[int, ...]

    def request(self, max_new_tokens: int) -> Request:
        from vocabtrim.decode.batch import Request

        return Request(self.key, self.prompt_ids, max_new_tokens)


@dataclass(frozen=True)
class _Run:
    """What all lines of a run share."""

    model: str
    seed: int
    fingerprint: str
    decode: Callable[[Sequence[int]], str]

    def line(self, job: _Job, completion: Completion) -> dict[str, Any]:
        return {
            "id": job.key,
            "domain": job.prompt.domain,
            "messages": list(job.prompt.messages),
            "completion": self.decode(completion.token_ids),
            "completion_ids": list(completion.token_ids),
            "finish_reason": completion.finish_reason,
            "model": self.model,
            "seed": self.seed,
            "tokenizer": self.fingerprint,
        }


class _Part:
    """The unfinished output: a header, then one line an answer."""

    def __init__(self, path: Path, lines: dict[str, dict[str, Any]]) -> None:
        self.path, self.lines = path, lines

    @classmethod
    def open(
        cls, path: Path, header: Mapping[str, Any], jobs: Mapping[str, _Job], *, force: bool
    ) -> _Part:
        """Begin, or continue what the same command began."""
        if path.is_file():
            found, lines, whole = _read_part(path)
            if found == header:
                with path.open("r+b") as stream:
                    stream.truncate(whole)
                return cls(path, {key: line for key, line in lines.items() if key in jobs})
            if not force:
                raise OutputExists(
                    path, f"{_difference(found, header)}; delete it or give --force to start over"
                )
        part = cls(path, {})
        with part.disk_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_dump(header), encoding="utf-8")
        return part

    def append(self, line: dict[str, Any]) -> None:
        """Write one line to the disk."""
        with self.disk_errors(), self.path.open("a", encoding="utf-8") as stream:
            stream.write(_dump(line))
        self.lines[line["id"]] = line

    def finish(self, output: Path, keys: Iterable[str], *, force: bool) -> None:
        """Write `output` in the order of `keys`, and be gone."""
        with atomic_file(output, force=force) as temporary:
            text = "".join(_dump(self.lines[key]) for key in keys)
            temporary.write_text(text, encoding="utf-8")
        self.path.unlink()

    @contextlib.contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Say what a full or closed disk means here."""
        try:
            yield
        except OSError as fault:
            raise EnvironmentFailure(
                f"{self.path} cannot be written ({fault.strerror}); what is there is kept: "
                "see to the disk and run the same command again"
            ) from fault


def _jobs(prompts: Iterable[Prompt], encoder: PromptEncoder, samples: int) -> dict[str, _Job]:
    jobs: dict[str, _Job] = {}
    for prompt in prompts:
        ids = tuple(int(one) for one in encoder.encode(prompt))
        # ids are unique, so these are too: what stands behind the last slash has none
        for sample in range(samples):
            key = prompt.id if samples == 1 else f"{prompt.id}/{sample}"
            jobs[key] = _Job(key, prompt, ids)
    return jobs


def _digest(jobs: Mapping[str, _Job]) -> str:
    document = json.dumps([[key, job.prompt_ids] for key, job in jobs.items()])
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


def _read_part(path: Path) -> tuple[Any, dict[str, dict[str, Any]], int]:
    """Return header, whole lines by id, and the bytes that they take."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].splitlines()
    try:
        parsed = [json.loads(line) for line in lines]
        answers = {line["id"]: line for line in parsed[1:]}
    except (ValueError, KeyError, TypeError) as fault:
        raise ArtifactError(f"{path} is damaged ({fault!r}); delete it to start over") from fault
    return (parsed[0] if parsed else None), answers, whole


def _difference(found: Any, header: Mapping[str, Any]) -> str:
    """Say in which option an unfinished output differs."""
    begun = found.get(HEADER) if isinstance(found, dict) else None
    if not isinstance(begun, dict):
        return "it is no unfinished output of vocabtrim"
    for name, value in header[HEADER].items():
        if begun.get(name) != value:
            return f"it was begun with {name} {begun.get(name)}, not {value}"
    return "it was begun by another command"


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False) + "\n"


def _warnings(encoder: PromptEncoder, *, raw: bool) -> tuple[str, ...]:
    if raw or encoder.uses_template:
        return ()
    return ("the tokenizer has no chat template, so prompts were read as raw text",)
