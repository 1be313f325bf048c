"""`vocabtrim generate`: prompts to what the target answers, as JSONL.

Text that the target itself wrote is the best calibration data (VocabTrim,
arXiv 2506.22694), and a lot of it is needed, so this verb is batched and can be
stopped at any time: each answer is one line, written at once, in `OUT.part`,
and the same command goes on from there. When all are there, `OUT` is written
in the order of the prompts, whatever order they ended in.

Here the model runs in this process; with a drafter, the drafter writes in its
place (`decode/drafting.py` says how). `pipeline/generate_served.py` asks a
server instead. How tokens are chosen is `decode/sampling.py`, how rows share a
batch `decode/batch.py`, what is kept of an interrupted run `pipeline/part.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import DecodeError, TokenizerMismatch
from vocabtrim.core.manifest import refuse_existing
from vocabtrim.families.base import family_of
from vocabtrim.pipeline.answering import (
    Advance,
    Answer,
    Assignment,
    Failure,
    GenerateResult,
    Job,
    digest,
    make_jobs,
)
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tokens.prompts import PromptEncoder, read_prompts
from vocabtrim.tokens.tokenizer import Tokenizer, fingerprint_of

if TYPE_CHECKING:
    from vocabtrim.decode.batch import Completion, Request
    from vocabtrim.decode.sampling import Sampling

NO_TEMPLATE = "the tokenizer has no chat template, so prompts were read as raw text"


def generate(
    prompts: Sequence[Path],
    target: Path,
    output: Path,
    *,
    max_new_tokens: int,
    model: str | None = None,
    drafter: Path | None = None,
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
        model: Name of the author in each line; its directory's by default.
        drafter: Directory of a drafter of the target, which writes in its place.
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
        OutputExists: `output` is there, or `OUT.part` was begun otherwise or is
            being written.
        CalibrationError: A prompt cannot be used.
        DecodeError: The model cannot be used, or an option is out of range.
        CheckpointError: The drafter is damaged, or does not fit the target.
        TokenizerMismatch: The drafter belongs to another tokenizer.
        EnvironmentFailure: The disk is full; what is there is kept.
    """
    from vocabtrim.decode.sampling import Sampling

    refuse_existing(output, force=force)
    if batch_size < 1 or max_new_tokens < 1 or (limit is not None and limit < 1):
        raise DecodeError("max_new_tokens, samples, batch_size and limit must be at least 1")
    sampling = Sampling(temperature, top_k, top_p, seed)
    chosen = read_prompts(prompts)[:limit]
    jobs = make_jobs(chosen, samples, greedy=sampling.greedy)
    encoder = PromptEncoder(target, raw=raw)
    if drafter is not None:
        _check_tokenizer(drafter, encoder.tokenizer.fingerprint)
    encoded = {prompt.id: encoder.encode(prompt).tolist() for prompt in chosen}
    prompt_ids = {key: encoded[job.prompt.id] for key, job in jobs.items()}
    name = model if model is not None else (drafter or target).name
    writer = _Writer(
        target, drafter, prompt_ids, encoder.tokenizer, sampling, max_new_tokens, batch_size, dtype
    )
    # the keys of a run without a drafter are what older versions wrote: their parts go on
    request = {
        "model": name,
        "tokenizer": encoder.tokenizer.fingerprint,
        "prompts": digest(prompt_ids),
        "max_new_tokens": max_new_tokens,
        "dtype": dtype,
        **asdict(sampling),
        **({} if drafter is None else {"target": target.name, "drafter": drafter.name}),
    }
    assignment = Assignment(output, jobs, request, name, seed, force)
    result = assignment.carry_out(writer.answers, progress=progress)
    unasked = () if raw or encoder.uses_template else (NO_TEMPLATE,)
    return replace(
        result,
        prompt_tokens=sum(len(ids) for ids in prompt_ids.values()),
        warnings=(*result.warnings, *unasked),
    )


@dataclass(frozen=True)
class _Writer:
    """The model or drafter that answers, before it is loaded."""

    target: Path
    drafter: Path | None
    prompt_ids: Mapping[str, list[int]]
    tokenizer: Tokenizer
    sampling: Sampling
    max_new_tokens: int
    batch_size: int
    dtype: str

    def answers(self, jobs: Sequence[Job]) -> Iterator[Answer | Failure]:
        """Load what writes, and return its answers as they come."""
        from vocabtrim.decode.batch import Request

        requests = [
            Request(job.key, tuple(self.prompt_ids[job.key]), self.max_new_tokens) for job in jobs
        ]
        return (self._answer(completion) for completion in self._completions(requests))

    def _completions(self, requests: Sequence[Request]) -> Iterator[Completion]:
        from vocabtrim.decode.batch import generate_batched
        from vocabtrim.decode.drafting import generate_drafted
        from vocabtrim.decode.model import load_model
        from vocabtrim.decode.packed import pack_linears

        loaded = pack_linears(load_model(self.target, self.dtype))
        options: dict[str, Any] = {"sampling": self.sampling, "batch_size": self.batch_size}
        if self.drafter is None:
            return generate_batched(loaded, requests, **options)
        checkpoint = Checkpoint.open(self.drafter)
        drafter = family_of(checkpoint, to_decode=True).load_drafter(
            checkpoint, Checkpoint.open(self.target), loaded, None
        )
        return generate_drafted(loaded, drafter, requests, **options)

    def _answer(self, completion: Completion) -> Answer:
        return Answer(
            key=completion.key,
            completion=self.tokenizer.decode(completion.token_ids),
            completion_ids=completion.token_ids,
            finish_reason=completion.finish_reason,
            tokenizer=self.tokenizer.fingerprint,
        )


def _check_tokenizer(drafter: Path, expected: str) -> None:
    """Refuse a drafter of another tokenizer, where it shows one."""
    TokenizerMismatch.check(
        f"the drafter {drafter} was made with another tokenizer than the target's",
        expected=expected,
        found=fingerprint_of(drafter),
    )
