"""`vocabtrim trace`: prompts to what a drafter ranks best along the target's answers.

The target's greedy answers are generated first, batched and resumable, as
`vocabtrim generate` does (into a file beside `OUT`, removed in the end). Then each
is read once and drafted along (`replay/trace.py`). What was traced is kept in
`OUT.part`, some texts a file, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vocabtrim.core.errors import CalibrationError, OutputExists
from vocabtrim.core.manifest import atomic_file, refuse_existing
from vocabtrim.core.trace import Trace, TracedText
from vocabtrim.core.trace_file import read_trace, write_trace
from vocabtrim.pipeline.generate import generate
from vocabtrim.pipeline.pair import open_pair
from vocabtrim.pipeline.resolve import looked_up
from vocabtrim.tokens.prompts import Prompt, PromptEncoder, read_prompts

if TYPE_CHECKING:
    from vocabtrim.decode.target import Target
    from vocabtrim.replay.trace import Tracer

Advance = Callable[[int, int], None]

TEXTS_A_FILE = 32
"""Texts of an unfinished trace that are written together."""


@dataclass(frozen=True)
class TraceResult:
    """What tracing came to.

    Args:
        output: The trace.
        target: Name of the target.
        drafter: Name of the drafter.
        texts: Answers traced.
        tokens: New tokens in them.
        positions: At which a cycle can begin.
        continued: Texts that an earlier, interrupted run had traced.
        max_gamma: Longest draft that can be replayed.
        width: m, candidates kept at each position and depth.
        resolved: Open positions that were looked up.
        seconds: Of this run's tracing, without loading and generating.
        tokens_per_second: New tokens of this run over `seconds`; None for none.
    """

    output: str
    target: str
    drafter: str
    texts: int
    tokens: int
    positions: int
    continued: int
    max_gamma: int
    width: int
    resolved: int
    seconds: float
    tokens_per_second: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"trace": asdict(self)}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        continued = f" ({self.continued:,} from an earlier run)" if self.continued else ""
        rate = "" if self.tokens_per_second is None else f", {self.tokens_per_second:,.0f} a second"
        return [
            f"trace      {self.texts:,} answers{continued}  →  {self.output}",
            f"tokens     {self.tokens:,} in {self.positions:,} positions{rate}",
            f"answers    any draft vocabulary, draft lengths up to {self.max_gamma}, "
            f"{self.width} candidates a position",
            *([f"resolved   {self.resolved:,} open positions"] if self.resolved else []),
        ]


def trace(
    prompts: Sequence[Path],
    target: Path,
    drafter: Path,
    output: Path,
    *,
    gamma: int,
    max_new_tokens: int,
    width: int = 32,
    resolve: Sequence[Path] = (),
    limit: int | None = None,
    target_name: str | None = None,
    drafter_name: str | None = None,
    batch_size: int = 64,
    dtype: str = "float32",
    raw: bool = False,
    force: bool = False,
    progress: Advance | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TraceResult:
    """Trace the target's greedy answers and write the trace.

    Args:
        prompts: PROMPTS files.
        target: Directory of the target.
        drafter: Directory of the drafter, over every id that it has rows for.
        output: The trace to make.
        gamma: Longest draft to be replayed, at least 1.
        max_new_tokens: Per answer, at least 1.
        width: m, candidates kept.
        resolve: Counts and draft vocabularies for which no position is left open.
        limit: Use only the first so many prompts.
        target_name: As it is named in the result; its directory's by default.
        drafter_name: The same for the drafter.
        batch_size: Rows of a pass while answers are generated.
        dtype: "float32", "bfloat16" or "float16".
        raw: Leave the chat template out.
        force: Replace `output`.
        progress: Called with (texts traced, texts in all).
        clock: Seconds since whenever.

    Raises:
        OutputExists: `output` is there, or another command began `OUT.part`.
        CalibrationError: A prompt cannot be used.
        DecodeError: A model cannot be used, or an option is out of range.
        TokenizerMismatch: Drafter and target have different tokenizers.
        TraceError: The draft length or the candidates are out of range.
    """
    from vocabtrim.replay.trace import Tracer

    refuse_existing(output, force=force)
    names = (target_name or target.name, drafter_name or drafter.name)
    asked = read_prompts(prompts)[:limit]
    request = [digest_of(asked), names[0], _state(target), max_new_tokens, dtype, raw]
    mark = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:8]
    answers = output.with_name(f"{output.name}.texts-{mark}.jsonl")
    if not answers.exists():
        generate(
            prompts,
            target,
            answers,
            max_new_tokens=max_new_tokens,
            model=names[0],
            limit=limit,
            batch_size=batch_size,
            dtype=dtype,
            raw=raw,
        )
    pair = open_pair(target, drafter, dtype)
    texts = _texts(answers, asked, PromptEncoder(target, raw=raw), pair.target, max_new_tokens)
    tracer = Tracer(
        pair.target, pair.drafter, max_gamma=gamma, width=width, tokenizer=pair.tokenizer
    )
    options = {"gamma": gamma, "max_new_tokens": max_new_tokens, "width": width, "raw": raw}
    facts = {
        "target": names[0],
        "drafter": names[1],
        "dtype": dtype,
        "prompts": digest_of(asked),
        "cost": pair.cost.to_json(),
    }
    part = _Part(output, {"texts": _digest(texts), **options, **facts}, tracer)
    continued = part.traced()
    began = clock()
    part.go_on(texts, progress)
    seconds = clock() - began
    whole = part.joined(texts)
    if resolve:
        whole = looked_up(whole, resolve, tracer)
    write_trace(output, whole, inputs={}, options=options, facts=facts, force=force)
    shutil.rmtree(part.directory)
    answers.unlink()
    fresh = sum(text.tokens.size for text in texts[continued:])
    return TraceResult(
        output=str(output),
        target=names[0],
        drafter=names[1],
        texts=len(texts),
        tokens=sum(int(text.tokens.size) for text in texts),
        positions=len(whole.left),
        continued=continued,
        max_gamma=gamma,
        width=width,
        resolved=len(whole.above),
        seconds=seconds,
        tokens_per_second=fresh / seconds if seconds else None,
    )


def digest_of(prompts: Sequence[Prompt]) -> str:
    """Return what tells these prompts, in this order, from others."""
    contents = [[prompt.id, prompt.domain, prompt.messages] for prompt in prompts]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _state(directory: Path) -> list[tuple[str, int, int]]:
    """Return what changes where a model is replaced by another of its name."""
    files = [path for path in directory.iterdir() if path.is_file()]
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _texts(
    answers: Path,
    prompts: Sequence[Prompt],
    encoder: PromptEncoder,
    target: Target,
    budget: int,
) -> list[TracedText]:
    """Return the answers with the ids of their prompts, and the room that each had."""
    from vocabtrim.decode.text import new_token_room

    asked = {prompt.id: prompt for prompt in prompts}
    found = []
    # bytes, because text is cut at separators that JSON leaves as they are
    for number, line in enumerate(answers.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            prompt, answer = asked[record["id"]], record["completion_ids"]
        except (ValueError, KeyError, TypeError) as fault:
            raise CalibrationError(
                f"this is no answer to these prompts ({fault!r}); delete the file to generate "
                "them anew",
                path=answers,
                line=number,
            ) from fault
        ids, answer_ids = encoder.encode(prompt), np.array(answer, dtype=np.int64)
        room = new_token_room(target, ids.size, budget, name=f"prompt {prompt.id}")
        found.append(TracedText(prompt.id, prompt.domain or "", ids, answer_ids, room))
    return found


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


class _Part:
    """The unfinished trace: a directory of traces of a few texts each."""

    def __init__(self, output: Path, request: dict[str, Any], tracer: Tracer) -> None:
        self.directory = output.with_name(output.name + ".part")
        self._tracer = tracer
        header = self.directory / "request.json"
        self.directory.mkdir(parents=True, exist_ok=True)
        if header.is_file():
            if _document(header) != request:
                raise OutputExists(
                    self.directory, "another command began it; delete it to start over"
                )
        else:
            with atomic_file(header, force=True) as temporary:
                temporary.write_text(json.dumps(request), encoding="utf-8")

    def traced(self) -> int:
        """Return how many texts were traced."""
        return sum(len(one.texts) for one in self._pieces())

    def go_on(self, texts: Sequence[TracedText], progress: Advance | None) -> None:
        """Trace the texts that were not, and keep each piece as it is done."""
        for begin in range(self.traced(), len(texts), TEXTS_A_FILE):
            some = texts[begin : begin + TEXTS_A_FILE]
            piece = self._tracer.trace(some)
            write_trace(self._path(begin), piece, inputs={}, options={}, facts={})
            if progress is not None:
                progress(begin + len(some), len(texts))

    def joined(self, texts: Sequence[TracedText]) -> Trace:
        """Return the trace of all texts."""
        from vocabtrim.replay.trace import TracedRows

        pieces = list(self._pieces())
        rows = [
            TracedRows(one.candidates, one.scores, one.target_rank, one.target_score)
            for one in pieces
        ]
        return self._tracer.join(texts, rows)

    def _pieces(self) -> Iterator[Trace]:
        begin = 0
        while self._path(begin).is_file():
            piece, _ = read_trace(self._path(begin))
            yield piece
            begin += len(piece.texts)

    def _path(self, begin: int) -> Path:
        return self.directory / f"{begin:06}.safetensors"


def _digest(texts: Sequence[TracedText]) -> str:
    document = json.dumps(
        [[one.name, one.prompt_ids.tolist(), one.tokens.tolist()] for one in texts]
    )
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()
