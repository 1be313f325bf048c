"""A task to its outcome: read the blocks, encode and count what is in them.

`TaskCounter` does it, in any process: it is opened from a `Job`, which says all
that has to be known and can be sent anywhere. An outcome says besides the
counts what was left out, and of which files something could be used. It holds
nothing of the text.

Outcomes are put together, in the order of the tasks, by `tally.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vocabtrim.pipeline.counting.inputs import Piece, Place, Task, unreadable
from vocabtrim.sources.base import SOURCES, Document, Reading, Skipped
from vocabtrim.tokens.counting import BatchCounter, Content, TokenizerFacts
from vocabtrim.tokens.id_counts import Group, SparseBatch


@dataclass(frozen=True)
class Job:
    """What every process that counts has to know.

    Args:
        tokenizer: A directory with a `tokenizer.json`, or that file.
        role: Whose turns of a conversation count.
        cap_per_document: An id counts at most so often in one document.
        field: The field of a record to read; None: the one that it has.
        backend: What encodes: one of `tokenizer.BACKENDS`.
        named: Domains that records name themselves.
    """

    tokenizer: Path
    role: str = "assistant"
    cap_per_document: int | None = None
    field: str | None = None
    backend: str = "auto"
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """What a task came to.

    Args:
        stop: Where the next task begins.
        batch: Counts of its documents.
        skipped: Records that were left out, in order.
        usable: Name of each file of the task to the documents found in it, in order.
        size: As of the task.
    """

    stop: Place
    batch: SparseBatch
    skipped: tuple[Skipped, ...] = ()
    usable: Mapping[str, int] = field(default_factory=dict)
    size: int = 0


class TaskCounter:
    """Counts tasks for one job.

    Args:
        job: What is asked for.

    Raises:
        TokenizerError: The tokenizer is missing or damaged.
        CalibrationError: No such role, or a cap below 1.
    """

    def __init__(self, job: Job) -> None:
        self._named = job.named
        self._counter = BatchCounter.open(
            job.tokenizer,
            role=job.role,
            cap_per_document=job.cap_per_document,
            backend=job.backend,
        )
        self.facts: TokenizerFacts = self._counter.facts
        self._reading = Reading(self.facts.fingerprint, self.facts.vocab_size, job.role, job.field)

    def count(self, task: Task) -> Outcome:
        """Count a task.

        Raises:
            CalibrationError: A file of it cannot be read.
            BackendMismatch: The fast backend and the reference disagree.
        """
        contents: list[Content] = []
        groups: list[Group] = []
        warnings: Counter[str] = Counter()
        skipped: list[Skipped] = []
        usable: Counter[str] = Counter()
        for piece in task.pieces:
            usable[piece.block.file.name] += 0
            for found in self._read(piece):
                if isinstance(found, Skipped):
                    skipped.append(found)
                    continue
                usable[piece.block.file.name] += 1
                contents.append(found.content)
                groups.append(self._group(piece, found))
                if found.warning:
                    warnings[found.warning] += 1
        batch = self._counter.count_sparse(contents, groups)
        batch.warnings.update(warnings)
        return Outcome(task.stop, batch, tuple(skipped), usable, task.size)

    def _read(self, piece: Piece) -> Iterator[Document | Skipped]:
        block = piece.block
        try:
            yield from SOURCES.load(block.source).read(block, self._reading)
        except OSError as fault:
            raise unreadable(block.file.name, fault) from fault

    def _group(self, piece: Piece, document: Document) -> Group:
        own = document.domain
        return piece.group | {own} if own is not None and own in self._named else piece.group
