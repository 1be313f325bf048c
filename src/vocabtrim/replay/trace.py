"""Recording a trace: what a drafter ranks best along texts of the target.

The target reads each text once, for its features; the drafter is drafted along
from every position (`decode/along.py`); and its head, over all the ids that it
has rows for, is asked for the m best at every position and depth, and for the
rank of the text's own token. Equal logits rank by ascending id, as `argmax`
takes them. What m candidates do not decide for one vocabulary, `resolved` looks
up again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vocabtrim.core.trace import Trace, TracedText, TraceError
from vocabtrim.decode.along import states_along
from vocabtrim.decode.drafters.base import Drafter
from vocabtrim.decode.drafters.independent import IndependentDrafter
from vocabtrim.decode.target import Target

ROWS = 128
"""Positions whose logits over all ids are held at once."""


@dataclass(frozen=True, eq=False)
class TracedRows:
    """What a text adds to a trace, a row for each start; fields as in `Trace`."""

    candidates: NDArray[np.int32]
    scores: NDArray[np.float32]
    target_rank: NDArray[np.int32]
    target_score: NDArray[np.float32]


class Tracer:
    """Records texts of one target for one drafter.

    Args:
        target: With the drafter's `feature_layers`.
        drafter: Over every id that its head has a row for.
        max_gamma: Longest draft to be replayed, at least 1.
        width: m, candidates kept.
        tokenizer: Fingerprint.

    Raises:
        TraceError: A number is too small, or the head has fewer rows than `width`.
    """

    def __init__(
        self, target: Target, drafter: Drafter, *, max_gamma: int, width: int, tokenizer: str
    ) -> None:
        vocab = drafter.head.vocab
        if max_gamma < 1 or not 1 <= width < vocab.size:
            raise TraceError(
                f"a trace needs a draft length of 1 or more and from 1 to {vocab.size - 1} "
                f"candidates, found {max_gamma} and {width}"
            )
        self.target, self.drafter, self.tokenizer = target, drafter, tokenizer
        self.max_gamma, self.width = max_gamma, width
        self.own_depths = not isinstance(drafter, IndependentDrafter)
        self._row_of = np.full(vocab.vocab_size, -1, dtype=np.int64)
        self._row_of[vocab.ids] = np.arange(vocab.size)

    @property
    def depths(self) -> int:
        """D, depths recorded at each start."""
        return self.max_gamma if self.own_depths else 1

    def rows(self, text: TracedText) -> TracedRows:
        """Return what a text adds to a trace."""
        rows = self._room(text.starts)
        if text.starts == 0:
            return rows
        places = self._places(text.starts)
        for part, logits in self._logits(text, places):
            start, depth = part[:, 0], part[:, 1]
            ids, scores = self._best(logits)
            rows.candidates[start, depth], rows.scores[start, depth] = ids, scores
            rank, score = self._ranks(logits, text.tokens[start + 1 + depth], ids)
            rows.target_rank[start, depth], rows.target_score[start, depth] = rank, score
        return rows

    def above(
        self, text: TracedText, places: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, NDArray[np.int32]]]:
        """Yield start, depth and all ids that rank above the text's own token there.

        Args:
            text: The text.
            places: [n, 2] int64 starts and depths whose tokens have a rank.
        """
        for part, logits in self._logits(text, places):
            for (start, depth), values in zip(part.tolist(), logits, strict=True):
                row = int(self._row_of[text.tokens[start + 1 + depth]])
                over = values > values[row]
                over[:row] |= values[:row] == values[row]
                ids = self.drafter.head.vocab.ids[over.nonzero()[:, 0].cpu().numpy()]
                yield start, depth, ids.astype(np.int32)

    def join(self, texts: Sequence[TracedText], parts: Sequence[TracedRows]) -> Trace:
        """Return the trace of texts whose rows were recorded."""
        every, vocab = [self._room(0), *parts], self.drafter.head.vocab
        return Trace(
            texts=tuple(texts),
            candidates=np.concatenate([one.candidates for one in every]),
            scores=np.concatenate([one.scores for one in every]),
            target_rank=np.concatenate([one.target_rank for one in every]),
            target_score=np.concatenate([one.target_score for one in every]),
            own_depths=self.own_depths,
            max_gamma=self.max_gamma,
            vocab_size=vocab.vocab_size,
            tokenizer=self.tokenizer,
            above={},
            head_ids=None if vocab.is_full else vocab.ids,
        )

    def trace(self, texts: Iterable[TracedText]) -> Trace:
        """Record texts."""
        known = list(texts)
        return self.join(known, [self.rows(text) for text in known])

    def _room(self, starts: int) -> TracedRows:
        """Return rows of which nothing is recorded yet."""
        shape = (starts, self.depths)
        return TracedRows(
            np.zeros((*shape, self.width), dtype=np.int32),
            np.zeros((*shape, self.width), dtype=np.float32),
            np.full(shape, -1, dtype=np.int32),
            np.zeros(shape, dtype=np.float32),
        )

    def _places(self, starts: int) -> NDArray[np.int64]:
        """Return [n, 2] int64 starts and depths inside a text."""
        inside = np.add.outer(np.arange(starts), np.arange(self.depths)) < starts
        return np.argwhere(inside)

    def _logits(
        self, text: TracedText, places: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Yield places, some at a time, with the head's logits [n, K] there."""
        prompt, new = text.prompt_ids.tolist(), text.tokens.tolist()
        features = None
        if self.drafter.feature_layers:
            read = [*prompt, *new[:-2]]
            self.target.begin(len(read))
            features = self.target.read(read, last_only=True).features
        states = states_along(self.drafter, prompt, new, features, self.depths)
        for begin in range(0, len(places), ROWS):
            part = places[begin : begin + ROWS]
            with torch.inference_mode():
                yield part, self.drafter.head.logits(states[part[:, 0], part[:, 1]])

    def _best(self, logits: torch.Tensor) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return ids and logits of the best rows, [n, m] each, equal ones by ascending id."""
        values, rows = logits.topk(self.width + 1, dim=1)
        # of rows that are equal at the edge, topk may keep any; those are sorted whole
        edge = values[:, -2] == values[:, -1]
        by_id = rows[:, :-1].sort(dim=1).values
        values, order = logits.gather(1, by_id).sort(dim=1, descending=True, stable=True)
        rows = by_id.gather(1, order)
        if edge.any():
            whole = logits[edge].sort(dim=1, descending=True, stable=True)
            values[edge] = whole.values[:, : self.width]
            rows[edge] = whole.indices[:, : self.width]
        ids = self.drafter.head.vocab.ids[rows.cpu().numpy()]
        return ids.astype(np.int32), values.float().cpu().numpy()

    def _ranks(
        self, logits: torch.Tensor, tokens: NDArray[np.int64], best: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return rank and logit of one token a position, [n] each.

        Args:
            logits: [n, K].
            tokens: [n] ids.
            best: [n, m] the best ids, in order: most tokens are among them, and
                only for the others all logits are looked through.
        """
        rows = torch.from_numpy(self._row_of[tokens]).to(logits.device)
        known = rows.clamp(min=0)[:, None]
        values = logits.gather(1, known)
        named = best == tokens[:, None]
        rank = np.where(rows.cpu().numpy() < 0, self.drafter.head.vocab.vocab_size, named.argmax(1))
        far = np.flatnonzero(~named.any(axis=1) & (rank == 0))
        if far.size:
            index = torch.from_numpy(far).to(logits.device)
            some, value, row = logits[index], values[index], known[index]
            before = torch.arange(some.shape[1], device=some.device) < row
            above = (some > value) | ((some == value) & before)
            rank[far] = above.sum(dim=1).cpu().numpy()
        score = values[:, 0].masked_fill(rows < 0, 0)
        return rank.astype(np.int32), score.float().cpu().numpy()


def resolved(tracer: Tracer, trace: Trace, rows: NDArray[np.int64]) -> Trace:
    """Look up positions that the candidates of a trace leave open.

    Args:
        tracer: With the same models.
        trace: What it recorded.
        rows: [n, 2] int64 rows and depths, as `OpenPositions.rows` gives them.
    """
    above = dict(trace.above)
    owners = np.searchsorted(trace.first_rows, rows[:, 0], side="right") - 1
    for owner in np.unique(owners).tolist():
        first = int(trace.first_rows[owner])
        places = rows[owners == owner] - [first, 0]
        for start, depth, ids in tracer.above(trace.texts[owner], places):
            above[first + start, depth] = ids
    return replace(trace, above=above)
