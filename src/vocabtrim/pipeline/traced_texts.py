"""The texts of a trace: what the target answers, and what of it is recorded already.

The target's answers are generated first, batched and resumable, as `vocabtrim
generate` does (into a file beside `OUT`, removed in the end). What was recorded of
them is kept in `OUT.part`, some texts a file, so the same command goes on where it
was stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from vocabtrim.core.errors import CalibrationError, OutputExists
from vocabtrim.core.manifest import atomic_file
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.core.trace import TracedText
from vocabtrim.pipeline.generate import generate
from vocabtrim.tokens.prompts import Prompt, PromptEncoder, read_prompts

if TYPE_CHECKING:
    from vocabtrim.decode.target import Target

Advance = Callable[[int, int], None]

TEXTS_A_FILE = 32
"""Texts of an unfinished trace that are written together."""


@dataclass(frozen=True)
class Traced:
    """What tracing came to.

    Args:
        output: The trace.
        target: Name of the target.
        drafter: Name of the drafter.
        max_gamma: Longest draft that can be replayed.
        texts: Answers traced.
        tokens: New tokens in them.
        positions: At which a cycle can begin.
        continued: Texts that an earlier, interrupted run had traced.
        seconds: Of this run's tracing, without loading and generating.
        tokens_per_second: New tokens of this run over `seconds`; None for none.
    """

    output: str
    target: str
    drafter: str
    max_gamma: int
    texts: int
    tokens: int
    positions: int
    continued: int
    seconds: float
    tokens_per_second: float | None

    def heading(self, answers: str) -> list[str]:
        """Return the first lines for a reader: what was traced, and how fast.

        Args:
            answers: What the texts are called.
        """
        continued = f" ({self.continued:,} from an earlier run)" if self.continued else ""
        rate = "" if self.tokens_per_second is None else f", {self.tokens_per_second:,.0f} a second"
        return [
            f"trace      {self.texts:,} {answers}{continued}  →  {self.output}",
            f"tokens     {self.tokens:,} in {self.positions:,} positions{rate}",
        ]


@dataclass(frozen=True)
class Asking:
    """What the target is asked, and how it answers.

    Args:
        prompts: PROMPTS files.
        target: Directory of the target.
        max_new_tokens: Per answer, at least 1.
        target_name: As it is named in what is written; its directory's by default.
        limit: Use only the first so many prompts.
        batch_size: Rows of a pass.
        dtype: "float32", "bfloat16" or "float16".
        raw: Leave the chat template out.
        sampling: `temperature`, `top_k`, `top_p` and `seed`; greedy without.
    """

    prompts: Sequence[Path]
    target: Path
    max_new_tokens: int
    target_name: str | None = None
    limit: int | None = None
    batch_size: int = 64
    dtype: str = "float32"
    raw: bool = False
    sampling: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the target."""
        return self.target_name or self.target.name

    def asked(self) -> list[Prompt]:
        """Return the prompts.

        Raises:
            CalibrationError: One cannot be used.
        """
        return read_prompts(self.prompts)[: self.limit]

    def answers(self, output: Path) -> Path:
        """Return the file of the answers, generated where they are not there.

        Args:
            output: The trace that is to be made; the answers are beside it.
        """
        state = _state(self.target)
        request = [digest_of(self.asked()), self.name, state, self.max_new_tokens, self.dtype]
        more = [self.raw, *(sorted(self.sampling.items()) if self.sampling else [])]
        mark = hashlib.sha256(json.dumps([*request, *more]).encode()).hexdigest()[:8]
        path = output.with_name(f"{output.name}.texts-{mark}.jsonl")
        if not path.exists():
            generate(
                self.prompts,
                self.target,
                path,
                max_new_tokens=self.max_new_tokens,
                model=self.name,
                limit=self.limit,
                batch_size=self.batch_size,
                dtype=self.dtype,
                raw=self.raw,
                **(self.sampling or {}),
            )
        return path

    def texts(self, answers: Path, target: Target) -> list[TracedText]:
        """Return the answers with the ids of their prompts, and the room that each had.

        Raises:
            CalibrationError: A line of the file answers none of the prompts.
        """
        from vocabtrim.decode.text import new_token_room

        encoder = PromptEncoder(self.target, raw=self.raw)
        asked = {prompt.id: prompt for prompt in self.asked()}
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
            room = new_token_room(target, ids.size, self.max_new_tokens, name=f"prompt {prompt.id}")
            found.append(TracedText(prompt.id, prompt.domain or "", ids, answer_ids, room))
        return found

    def facts(self, drafter: str, cost: PairCost) -> dict[str, Any]:
        """Return what a trace says of how it was made.

        Args:
            drafter: Its name.
            cost: Of the pair.
        """
        return {
            "target": self.name,
            "drafter": drafter,
            "dtype": self.dtype,
            "prompts": digest_of(self.asked()),
            "cost": cost.to_json(),
        }


class _Piece(Protocol):
    @property
    def texts(self) -> tuple[TracedText, ...]: ...


PieceT = TypeVar("PieceT", bound=_Piece)


class UnfinishedTrace(Generic[PieceT]):
    """What was recorded so far: a directory of traces of a few texts each.

    Args:
        output: The trace that is to be made; the directory is beside it.
        request: What tells this trace from another.
        write: Writes a piece to a path that is free.
        read: Reads it again.

    Raises:
        OutputExists: Another request began it.
    """

    def __init__(
        self,
        output: Path,
        request: Mapping[str, Any],
        write: Callable[[Path, PieceT], None],
        read: Callable[[Path], PieceT],
    ) -> None:
        self.directory = output.with_name(output.name + ".part")
        self._write, self._read = write, read
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

    def go_on(
        self,
        texts: Sequence[TracedText],
        record: Callable[[Sequence[TracedText]], PieceT],
        progress: Advance | None,
        clock: Callable[[], float],
    ) -> dict[str, Any]:
        """Record the texts that were not, and keep each piece as it is done.

        Args:
            texts: All of them, in order.
            record: Makes a piece of some.
            progress: Called with (texts recorded, texts in all).
            clock: Seconds since whenever.

        Returns:
            What `Traced` tells of it: `texts`, `tokens`, `positions`, `continued`
            (texts recorded before), `seconds` and `tokens_per_second` of this run.
        """
        continued = sum(len(one.texts) for one in self.pieces())
        began = clock()
        for begin in range(continued, len(texts), TEXTS_A_FILE):
            some = texts[begin : begin + TEXTS_A_FILE]
            self._write(self._path(begin), record(some))
            if progress is not None:
                progress(begin + len(some), len(texts))
        seconds = clock() - began
        sizes = [int(text.tokens.size) for text in texts]
        return {
            "texts": len(texts),
            "tokens": sum(sizes),
            "positions": sum(text.starts for text in texts),
            "continued": continued,
            "seconds": seconds,
            "tokens_per_second": sum(sizes[continued:]) / seconds if seconds else None,
        }

    def pieces(self) -> Iterator[PieceT]:
        """Return the pieces, in the order of the texts."""
        begin = 0
        while self._path(begin).is_file():
            piece = self._read(self._path(begin))
            yield piece
            begin += len(piece.texts)

    def remove(self) -> None:
        """Delete the directory."""
        shutil.rmtree(self.directory)

    def _path(self, begin: int) -> Path:
        return self.directory / f"{begin:06}.safetensors"


def digest_of(prompts: Sequence[Prompt]) -> str:
    """Return what tells these prompts, in this order, from others."""
    contents = [[prompt.id, prompt.domain, prompt.messages] for prompt in prompts]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def digest_of_texts(texts: Sequence[TracedText]) -> str:
    """Return what tells these texts, in this order, from others."""
    document = json.dumps(
        [[one.name, one.prompt_ids.tolist(), one.tokens.tolist()] for one in texts]
    )
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


def _state(directory: Path) -> list[tuple[str, int, int]]:
    """Return what changes where a model is replaced by another of its name."""
    files = [path for path in directory.iterdir() if path.is_file()]
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None
