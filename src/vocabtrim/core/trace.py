"""What a drafter ranks best along texts that the target wrote.

An accepted draft always equals the target's own continuation. So what greedy
chain decoding does, with any draft vocabulary, any draft length and even a
vocabulary that changes with the context, follows from one record: at every
position of the target's own text and at every depth of a draft that begins
there, the ids that the drafter ranks best over the full vocabulary, and the
rank of the target's token.

An id outside of the vocabulary cannot be drafted, and taking ids away moves
none of the others: the drafter proposes its best id *inside*, and the draft is
accepted exactly if the target's token is inside and nothing that ranks above it
is. `replay/replay.py` does that; nothing here decodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import VocabtrimError


class TraceError(VocabtrimError):
    """A trace contradicts itself, or cannot answer what it is asked."""


@dataclass(frozen=True, eq=False)
class TracedText:
    """A prompt and what the target answered.

    Args:
        name: Id of the prompt.
        domain: Its domain, or "".
        prompt_ids: [P] int64.
        tokens: [T] int64 new ids, a final EOS included; at least one.
        budget: New tokens that were allowed, at least T.
    """

    name: str
    domain: str
    prompt_ids: NDArray[np.int64]
    tokens: NDArray[np.int64]
    budget: int

    def __post_init__(self) -> None:
        if not 1 <= self.tokens.size <= self.budget:
            raise TraceError(
                f"prompt {self.name}: {self.tokens.size} new tokens do not fit "
                f"the {self.budget} that were allowed"
            )

    @property
    def starts(self) -> int:
        """Positions at which a cycle can begin: after each new token but the last."""
        return int(self.tokens.size) - 1


@dataclass(frozen=True, eq=False)
class Trace:
    """Candidates of one drafter along many texts of one target.

    Row n is a position at which a cycle can begin; rows go text by text. With
    `own_depths` row n holds the draft that begins there at depths 0 to D - 1
    (EAGLE: a draft goes on from its own features, so that depth matters);
    without, D is 1 and depth j of a draft is depth 0 of the row j further on
    (an independent drafter reads tokens, and the drafts are the text's own).

    Args:
        texts: The texts, in order.
        candidates: [N, D, m] int32 the drafter's best ids, best first; equal
            logits by ascending id.
        scores: [N, D, m] float32 their logits.
        target_rank: [N, D] int32 ids that rank above the target's token; -1
            where the text has ended, V where the drafter's head has no row for
            the token.
        target_score: [N, D] float32 the logit of the target's token; 0 where it
            has no rank.
        own_depths: Whether depths were recorded at each row.
        max_gamma: Longest draft that can be replayed.
        vocab_size: V.
        tokenizer: Fingerprint.
        above: Row and depth to all ids that rank above the target's token
            there, int32, for positions that m candidates leave open.
        head_ids: [R] int64 ids that the drafter's head has rows for, ascending;
            None where it has all.

    Raises:
        TraceError: Shapes or ranks contradict each other.
    """

    texts: tuple[TracedText, ...]
    candidates: NDArray[np.int32]
    scores: NDArray[np.float32]
    target_rank: NDArray[np.int32]
    target_score: NDArray[np.float32]
    own_depths: bool
    max_gamma: int
    vocab_size: int
    tokenizer: str
    above: dict[tuple[int, int], NDArray[np.int32]]
    head_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        rows = sum(text.starts for text in self.texts)
        depths = self.max_gamma if self.own_depths else 1
        shapes = {
            "candidates": (self.candidates.shape[:2], (rows, depths)),
            "scores": (self.scores.shape, self.candidates.shape),
            "target_rank": (self.target_rank.shape, (rows, depths)),
            "target_score": (self.target_score.shape, (rows, depths)),
        }
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise TraceError(f"the trace's {name} are {found}, but {expected} was expected")
        if (
            self.max_gamma < 1
            or self.candidates.ndim != 3
            or not 1 <= self.width <= self.vocab_size
        ):
            raise TraceError("a trace needs a draft length and a candidate at least")
        self._check_ids()
        if any(not (0 <= row < rows and 0 <= depth < depths) for row, depth in self.above):
            raise TraceError("the trace names ids at positions that it does not have")
        known = self.target_rank >= 0
        if not np.array_equal(known, self._inside_text(depths)):
            raise TraceError("the trace's ranks end elsewhere than its texts")
        place = np.minimum(self.target_rank, self.width - 1)[..., None]
        named = np.take_along_axis(self.candidates, np.maximum(place, 0), axis=2)[..., 0]
        inside = known & (self.target_rank < self.width)
        if (named[inside] != self.wanted[inside]).any():
            raise TraceError("the trace's ranks do not lead to the texts' own tokens")

    def _check_ids(self) -> None:
        vectors: list[NDArray[Any]] = [self.candidates, *self.above.values()]
        if self.head_ids is not None:
            vectors.append(self.head_ids)
        for ids in vectors:
            whole = np.issubdtype(ids.dtype, np.signedinteger)
            if not whole or (ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size):
                raise TraceError(f"the trace names ids that are none of {self.vocab_size}")

    @cached_property
    def ranked(self) -> NDArray[np.bool_]:
        """[N, D] bool: where the target's token is one that the drafter ranks."""
        rank = self.target_rank
        return (rank >= 0) & (rank < self.vocab_size)

    @cached_property
    def undecided(self) -> NDArray[np.bool_]:
        """[N, D] bool: where ids rank above the target's token that were not kept."""
        result: NDArray[np.bool_] = self.ranked & (self.target_rank > self.width)
        for row, depth in self.above:
            result[row, depth] = False
        return result

    @cached_property
    def rivals(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids kept that rank above the target's token, position by position.

        Returns:
            Positions [R] int64, row · D + depth, and ids [R] int64.
        """
        depths = self.target_rank.shape[1]
        over = np.arange(self.width) < np.where(self.ranked, self.target_rank, 0)[..., None]
        row, depth, place = np.nonzero(over)
        positions = [row * depths + depth]
        ids = [self.candidates[row, depth, place].astype(np.int64)]
        for (one, at), above in self.above.items():
            positions.append(np.full(above.size, one * depths + at, dtype=np.int64))
            ids.append(above.astype(np.int64))
        return np.concatenate(positions), np.concatenate(ids)

    @property
    def head_rows(self) -> int:
        """Rows of the drafter's head."""
        return self.vocab_size if self.head_ids is None else int(self.head_ids.size)

    def order(self, ranking: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return an order of all V ids: of a ranking those that have a row, then all others.

        Args:
            ranking: Ids, each once. Those beyond them (a head may be padded
                beyond the tokenizer's ids) come last.
        """
        beyond = np.setdiff1d(np.arange(self.vocab_size), ranking)
        order = np.concatenate([ranking, beyond])
        if self.head_ids is None:
            return order
        inside = np.isin(order, self.head_ids)
        return np.concatenate([order[inside], order[~inside]])

    @property
    def width(self) -> int:
        """m, the candidates of a position."""
        return int(self.candidates.shape[2])

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """[texts + 1] int64: where each text's rows begin, and N."""
        starts = [text.starts for text in self.texts]
        return np.concatenate([[0], np.cumsum(starts)]).astype(np.int64)

    @cached_property
    def left(self) -> NDArray[np.int64]:
        """[N] int64: tokens of its text that follow the one a row begins with."""
        parts = [np.arange(text.starts, 0, -1) for text in self.texts]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    @cached_property
    def wanted(self) -> NDArray[np.int32]:
        """[N, D] int32: the target's token at each depth; -1 where the text has ended."""
        following = [text.tokens[1:] for text in self.texts]
        flat = np.concatenate([np.empty(0, dtype=np.int64), *following]).astype(np.int32)
        depths = self.target_rank.shape[1]
        rows = np.arange(flat.size)[:, None] + np.arange(depths)
        inside = self._inside_text(depths)
        return np.where(inside, flat[np.minimum(rows, flat.size - 1)], np.int32(-1))

    def _inside_text(self, depths: int) -> NDArray[np.bool_]:
        return np.arange(depths) < self.left[:, None]


def joined(traces: Sequence[Trace]) -> Trace:
    """Return several traces as one.

    Args:
        traces: Of one drafter and tokenizer, made with the same options; one at
            least.

    Raises:
        TraceError: They differ in what they are of.
    """
    first = traces[0]
    for other in traces[1:]:
        if _kind(other) != _kind(first):
            raise TraceError(
                "the traces are of different drafters, tokenizers, draft lengths or numbers of "
                "candidates, so they cannot be read as one"
            )
    starts = np.cumsum([0, *(one.target_rank.shape[0] for one in traces)]).tolist()
    return replace(
        first,
        texts=tuple(text for one in traces for text in one.texts),
        candidates=np.concatenate([one.candidates for one in traces]),
        scores=np.concatenate([one.scores for one in traces]),
        target_rank=np.concatenate([one.target_rank for one in traces]),
        target_score=np.concatenate([one.target_score for one in traces]),
        above={
            (start + row, depth): ids
            for start, one in zip(starts, traces, strict=False)
            for (row, depth), ids in one.above.items()
        },
    )


def _kind(trace: Trace) -> tuple[object, ...]:
    rows = None if trace.head_ids is None else trace.head_ids.tobytes()
    same = (trace.vocab_size, trace.max_gamma, trace.width, trace.own_depths)
    return (trace.tokenizer, rows, *same)
