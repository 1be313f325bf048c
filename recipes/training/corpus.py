"""What a drafter is trained on: documents, who is held out, and the order of visits.

Two kinds of files: text that the target wrote itself (`vocabtrim generate`),
where only the completion is learnt, and other text (`text` or `messages`
records), where every token is. Everything here is a pure function of the files,
the seed and a position, so that a run which is killed continues on the batch
where it stopped, and a second run visits the same documents in the same order.

Documents are held out by the text of their prompt: an answer at temperature 1
to a prompt that was held out is held out as well. They are packed into rows of
equal length; a row's documents do not see one another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocabtrim.core.errors import CalibrationError, TokenizerMismatch
from vocabtrim.tokens.prompts import Prompt, PromptEncoder
from vocabtrim.tokens.template import ChatTemplate

WINDOW = 64
"""Rows that are packed together; their documents are neighbours in the order."""


@dataclass(frozen=True, eq=False)
class Document:
    """One text.

    Args:
        tokens: [T] int32.
        learnt: [T] bool, which tokens the drafter shall learn to predict.
        group: Digest of the prompt; a group is trained on or held out as one.
        domain: Of the prompt, for results.
    """

    tokens: NDArray[np.int32]
    learnt: NDArray[np.bool_]
    group: str
    domain: str | None = None

    @property
    def n_learnt(self) -> int:
        """Tokens learnt."""
        return int(self.learnt.sum())


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of packed documents.

    Args:
        tokens: [B, T] int64; 0 where a row is not filled.
        documents: [B, T] int64, which document of the row; -1 where not filled.
        positions: [B, T] int64, from 0 in every document.
        learnt: [B, T] bool.
    """

    tokens: torch.Tensor
    documents: torch.Tensor
    positions: torch.Tensor
    learnt: torch.Tensor

    @property
    def n_tokens(self) -> int:
        """Tokens of documents."""
        return int((self.documents >= 0).sum())


def read_documents(path: Path, target: Path, *, row_tokens: int) -> list[Document]:
    """Read a file of either kind; long texts are cut into pieces of a row.

    Of a completion that is too long its beginning is kept, and a prompt that
    fills a row alone is left out.

    Args:
        path: JSONL.
        target: Directory of the target, for tokenizer and chat template.
        row_tokens: Tokens of a row.

    Raises:
        CalibrationError: A record cannot be used; names file and line.
        TokenizerMismatch: The text was generated with another tokenizer.
    """
    reader = _Reader(target, row_tokens)
    documents: list[Document] = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                documents += reader.documents(json.loads(line))
            except (ValueError, KeyError, TypeError) as fault:
                if not line.endswith("\n"):
                    break  # a line that `vocabtrim generate` has not finished
                raise CalibrationError(
                    f"no record to train on ({fault!r})", path=path, line=number
                ) from fault
    if not documents:
        raise CalibrationError("there is nothing to train on in it", path=path)
    return documents


def split(
    documents: Sequence[Document], *, heldout_share: float
) -> tuple[list[Document], list[Document]]:
    """Return (documents to train on, documents held out).

    Which is decided by the group's own digest, so more data moves nobody.

    Args:
        documents: All.
        heldout_share: Share of groups held out, about.
    """
    edge = int(heldout_share * (1 << 32))
    held = [int(one.group[:8], 16) < edge for one in documents]
    return (
        [one for one, out in zip(documents, held, strict=True) if not out],
        [one for one, out in zip(documents, held, strict=True) if out],
    )


def limited(documents: Sequence[Document], tokens: int | None) -> list[Document]:
    """Return whole groups with about so many learnt tokens; smaller limits are nested."""
    if tokens is None:
        return list(documents)
    kept, total = [], 0
    for one in sorted(documents, key=lambda one: one.group[::-1]):
        if total >= tokens:
            break
        kept.append(one)
        total += one.n_learnt
    return kept


class Visits:
    """The endless order in which documents are visited.

    Every source is shuffled anew for each of its epochs; the next document
    comes from the source that is furthest behind its share of the tokens.

    Args:
        sources: (share, documents) of each; shares need not sum to 1.
        seed: Root of all orders.
        rows: B of a batch.
        row_tokens: T of a batch.

    Raises:
        CalibrationError: No source has both documents and a share.
    """

    def __init__(
        self,
        sources: Sequence[tuple[float, Sequence[Document]]],
        *,
        seed: int,
        rows: int,
        row_tokens: int,
    ) -> None:
        self._sources = [(share, docs) for share, docs in sources if share > 0 and docs]
        if not self._sources:
            raise CalibrationError("there are no documents to train on")
        self._seed, self._rows, self._row_tokens = seed, rows, row_tokens

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches from the one of index `start` on, without end."""
        packed = self._packed()
        for _ in range(start * self._rows):
            next(packed)
        while True:
            yield collate([next(packed) for _ in range(self._rows)], self._row_tokens)

    def _documents(self) -> Iterator[Document]:
        given = [0.0] * len(self._sources)
        orders = [self._epochs(index) for index in range(len(self._sources))]
        while True:
            behind = min(range(len(given)), key=lambda one: given[one] / self._sources[one][0])
            document = next(orders[behind])
            given[behind] += len(document.tokens)
            yield document

    def _epochs(self, source: int) -> Iterator[Document]:
        documents = self._sources[source][1]
        epoch = 0
        while True:
            generator = np.random.default_rng([self._seed, source, epoch])
            yield from (documents[one] for one in generator.permutation(len(documents)))
            epoch += 1

    def _packed(self) -> Iterator[list[Document]]:
        """Yield rows of documents: first fit, longest first, over a window."""
        documents = self._documents()
        window = 0
        while True:
            taken: list[Document] = []
            while sum(len(one.tokens) for one in taken) < WINDOW * self._row_tokens:
                taken.append(next(documents))
            rows: list[list[Document]] = []
            free: list[int] = []
            for one in sorted(taken, key=lambda one: -len(one.tokens)):
                place = next((i for i, room in enumerate(free) if room >= len(one.tokens)), None)
                if place is None:
                    place = len(rows)
                    rows.append([])
                    free.append(self._row_tokens)
                rows[place].append(one)
                free[place] -= len(one.tokens)
            generator = np.random.default_rng([self._seed, len(self._sources), window])
            yield from (rows[one] for one in generator.permutation(len(rows)))
            window += 1


def collate(rows: Sequence[Sequence[Document]], row_tokens: int) -> Batch:
    """Lay documents side by side in rows."""
    shape = (len(rows), row_tokens)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    owner, learnt = np.full(shape, -1, np.int64), np.zeros(shape, np.bool_)
    for row, documents in enumerate(rows):
        begin = 0
        for index, document in enumerate(documents):
            place = slice(begin, begin + len(document.tokens))
            tokens[row, place] = document.tokens
            positions[row, place] = np.arange(len(document.tokens))
            owner[row, place] = index
            learnt[row, place] = document.learnt
            begin = place.stop
        # positions from 0 tell transformers that a document begins
        positions[row, begin:] = np.arange(row_tokens - begin)
    return Batch(*(torch.from_numpy(one) for one in (tokens, owner, positions, learnt)))


def fingerprint(sources: Sequence[tuple[float, Sequence[Document]]]) -> str:
    """Return a digest of all documents and shares: equal data, equal order of visits."""
    digest = hashlib.sha256()
    for share, documents in sources:
        digest.update(f"{share} {len(documents)}".encode())
        for one in documents:
            digest.update(one.tokens.tobytes() + one.learnt.tobytes())
    return digest.hexdigest()[:16]


def group_of(prompt: str) -> str:
    """Return the digest of a prompt, whatever its white space."""
    return hashlib.sha256(" ".join(prompt.split()).encode()).hexdigest()


class _Reader:
    """Records to documents."""

    def __init__(self, target: Path, row_tokens: int) -> None:
        self._encoder = PromptEncoder(target)
        self._plain = PromptEncoder(target, raw=True)
        self._tokenizer = self._encoder.tokenizer
        source = self._tokenizer.chat_template
        self._template = (
            None if source is None else ChatTemplate(source, self._tokenizer.special_tokens)
        )
        self._row_tokens = row_tokens

    def documents(self, record: dict[str, Any]) -> list[Document]:
        if "vocabtrim generate" in record:
            return []  # the header of an unfinished output
        if "completion_ids" in record:
            return self._generated(record)
        if "messages" in record:
            if self._template is None:
                raise ValueError("a conversation needs a tokenizer with a chat template")
            text = self._template.render(record["messages"]).text
            ids = self._tokenizer.encode(text)
            return self._pieces(ids, group_of(record["messages"][0]["content"]), record)
        ids = self._plain.encode(Prompt("text", ({"role": "user", "content": record["text"]},)))
        # rows of question and answer: their first line is what a prompt asks
        return self._pieces(ids, group_of(record["text"].partition("\n")[0]), record)

    def _generated(self, record: dict[str, Any]) -> list[Document]:
        TokenizerMismatch.check(
            "the text was generated by a model with another tokenizer than the target's",
            expected=self._tokenizer.fingerprint,
            found=record["tokenizer"],
        )
        prompt = self._encoder.encode(Prompt(str(record["id"]), tuple(record["messages"])))
        tokens = np.concatenate([prompt, record["completion_ids"]])[: self._row_tokens]
        learnt = np.arange(len(tokens)) >= len(prompt)
        if learnt.sum() < 2:
            return []
        group = group_of(record["messages"][0]["content"])
        return [Document(tokens.astype(np.int32), learnt, group, record.get("domain"))]

    def _pieces(self, ids: NDArray[np.int64], group: str, record: dict[str, Any]) -> list[Document]:
        tokens = ids.astype(np.int32)
        pieces = [
            tokens[begin : begin + self._row_tokens]
            for begin in range(0, len(tokens), self._row_tokens)
        ]
        return [
            Document(piece, np.ones(len(piece), np.bool_), group, record.get("domain"))
            for piece in pieces
            if len(piece) > 2
        ]
