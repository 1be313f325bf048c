"""Greedy chain decoding under any draft vocabulary, from a trace alone.

`accepted` says for every position and depth whether the drafter's best id of a
vocabulary is the target's own token; `runs` how many in a row; `walk` goes
through every text in cycles, as decoding would (`decode/chain.py`; conventions
of counting in `core/metrics.py`), all texts and all draft lengths at once. No
model is loaded: one trace answers any number of questions.

For vocabularies that are prefixes of one order there is a shorter way: a draft
is accepted exactly while K lies between the place of the target's token and
that of the first id in the order which ranks above it (`Nested`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import TokenizerMismatch
from vocabtrim.core.metrics import AcceptCounts, CycleCounts, ExpectedCounts
from vocabtrim.core.trace import Trace, TraceError
from vocabtrim.core.vocab import DraftVocab


class OpenPositions(TraceError):
    """The candidates that were kept do not decide a vocabulary.

    Args:
        rows: [n, 2] int64 row and depth of the positions.
        of: Positions in all.
    """

    def __init__(self, rows: NDArray[np.int64], of: int) -> None:
        self.rows = rows
        super().__init__(
            f"the trace leaves {len(rows):,} of {of:,} positions open under this vocabulary: "
            "none of the candidates kept is inside it; look them up (trace --resolve), "
            "or trace again with more --candidates"
        )


@dataclass(frozen=True, eq=False)
class Replayed:
    """What decoding every text with one vocabulary and one draft length comes to.

    Cycles are int64 where they are exact, and float64 where they are expected
    (`replay/sampled.py`).

    Args:
        gamma: Draft length.
        accepted: [P, γ + 1] cycles of each text that accepted j drafts.
        drafted: [P, γ + 1] cycles of each text in which j drafts counted.
        made: [P, γ + 1] cycles of each text in which j tokens were drafted and
            verified; those behind an EOS that was accepted do not count, but take
            their time.
        tokens: [P] int64 emitted in cycles.
    """

    gamma: int
    accepted: NDArray[np.int64 | np.float64]
    drafted: NDArray[np.int64 | np.float64]
    made: NDArray[np.int64 | np.float64]
    tokens: NDArray[np.int64]

    @property
    def per_text(self) -> list[CycleCounts]:
        """The texts one by one, in the order of the trace."""
        return [self.of(slice(index, index + 1)) for index in range(self.tokens.size)]

    @property
    def pooled(self) -> CycleCounts:
        """All texts together."""
        return self.of(slice(None))

    def only(self, texts: NDArray[np.bool_]) -> Replayed:
        """Return the same of some of the texts."""
        return Replayed(
            self.gamma,
            self.accepted[texts],
            self.drafted[texts],
            self.made[texts],
            self.tokens[texts],
        )

    def of(self, texts: slice | NDArray[np.bool_]) -> CycleCounts:
        """Some of the texts together."""
        exact = np.issubdtype(self.accepted.dtype, np.integer)
        kind = AcceptCounts if exact else ExpectedCounts
        return kind(
            self.accepted[texts].sum(axis=0),
            self.drafted[texts].sum(axis=0),
            int(self.tokens[texts].sum()),
        )


def replay(trace: Trace, vocab: DraftVocab, gammas: Sequence[int]) -> list[Replayed]:
    """Return what decoding with `vocab` comes to, for each draft length.

    Args:
        trace: Of the drafter over the full vocabulary.
        vocab: What it may draft.
        gammas: Draft lengths, each at most the trace's; 0 is decoding alone.

    Raises:
        TraceError: A draft length is beyond the trace, or V differs.
        TokenizerMismatch: The vocabulary belongs to another tokenizer.
        OpenPositions: The candidates do not decide it.
    """
    check(trace, vocab)
    return walk(trace, runs(trace, accepted(trace, vocab.t2d)), gammas)


def check(trace: Trace, vocab: DraftVocab) -> None:
    """Refuse a vocabulary of another tokenizer or another V.

    Raises:
        TraceError: V differs.
        TokenizerMismatch: The tokenizer differs.
    """
    TokenizerMismatch.check(
        "the draft vocabulary and the trace belong to different tokenizers",
        expected=trace.tokenizer,
        found=vocab.tokenizer,
    )
    if vocab.vocab_size != trace.vocab_size:
        raise TraceError(
            f"the trace is over {trace.vocab_size} ids, the draft vocabulary over "
            f"{vocab.vocab_size}"
        )


def accepted(trace: Trace, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the drafter's best id inside is the target's token.

    Args:
        trace: Of the drafter.
        inside: [V] bool.

    Returns:
        [N, D] bool; False where the text has ended.

    Raises:
        OpenPositions: Somewhere the target's token is inside, ranks below all
            candidates kept, and none of them is inside.
    """
    # a wanted id of -1 looks at the last entry, and `ranked` takes it out again
    result: NDArray[np.bool_] = inside[trace.wanted] & trace.ranked
    positions, ids = trace.rivals
    result.ravel()[positions[inside[ids]]] = False
    return _decided(trace, result)


def would_accept(trace: Trace, rivals: NDArray[np.bool_], gamma: int) -> NDArray[np.bool_]:
    """Return where the target's token would be accepted if it were inside.

    Args:
        trace: Of the drafter.
        rivals: [V] bool, the ids that are inside; the token itself counts as one.
        gamma: Draft length, at most the trace's.

    Returns:
        [N, γ] bool by start and depth, for either kind of trace. A token that
        ranks below all candidates kept is taken as refused.
    """
    above = np.arange(trace.width) < trace.target_rank[..., None]
    blocked = (rivals[trace.candidates] & above).any(axis=2)
    known = trace.ranked & (trace.target_rank <= trace.width)
    result: NDArray[np.bool_] = known & ~blocked
    if trace.own_depths:
        return result[:, :gamma]
    rows = np.arange(result.shape[0])[:, None] + np.arange(gamma)
    inside: NDArray[np.bool_] = np.arange(gamma) < trace.left[:, None]
    inside &= result[np.minimum(rows, max(result.shape[0] - 1, 0)), 0]
    return inside


def accepted_in_context(
    trace: Trace, candidates_inside: NDArray[np.bool_], target_inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return what `accepted` does for a vocabulary that follows the context.

    Args:
        trace: Of the drafter.
        candidates_inside: [N, D, m] bool: each candidate at its own position.
        target_inside: [N, D] bool: the target's token.

    Raises:
        OpenPositions: As for `accepted`.
    """
    ranks_above = np.arange(trace.width) < trace.target_rank[..., None]
    result = target_inside & trace.ranked & ~(candidates_inside & ranks_above).any(axis=2)
    return _decided(trace, result)


def _decided(trace: Trace, result: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if (result & trace.undecided).any():
        raise OpenPositions(np.argwhere(result & trace.undecided), int(trace.ranked.sum()))
    return result


def runs(trace: Trace, accepted_drafts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many drafts in a row are accepted from each row on.

    Args:
        trace: Of the drafter.
        accepted_drafts: [N, D] bool.

    Returns:
        [N] int64, at most the trace's longest draft.
    """
    if trace.own_depths:
        in_a_row: NDArray[np.int64] = np.cumprod(accepted_drafts, axis=1).sum(axis=1)
        return in_a_row
    flat = accepted_drafts[:, 0]
    rows = np.arange(flat.size)
    # the first refusal at or behind each row; a text's end stops a run like a refusal
    refused = np.where(flat, flat.size, rows)
    first = np.minimum.accumulate(refused[::-1])[::-1]
    length = np.minimum(first - rows, trace.left)
    return np.minimum(length, trace.max_gamma).astype(np.int64)


def walk(trace: Trace, lengths: NDArray[np.int64], gammas: Sequence[int]) -> list[Replayed]:
    """Go through every text in cycles.

    Args:
        trace: The texts.
        lengths: [N] drafts accepted in a row from each row on.
        gammas: Draft lengths.

    Raises:
        TraceError: A draft length is negative or beyond the trace.
    """
    if beyond := [gamma for gamma in gammas if not 0 <= gamma <= trace.max_gamma]:
        raise TraceError(
            f"the trace answers for draft lengths 0 to {trace.max_gamma}, asked for {beyond[0]}"
        )
    shape = (len(gammas), len(trace.texts))
    longest = max(gammas, default=0)
    drafted, made, taken = (np.zeros((*shape, longest + 1), np.int64) for _ in range(3))
    budget = np.array([text.budget for text in trace.texts], dtype=np.int64)
    size = np.array([text.tokens.size for text in trace.texts], dtype=np.int64)
    # every pair of draft length and text that is under way
    index, text = (one.ravel() for one in np.indices(shape))
    gamma = np.array(gammas, dtype=np.int64)[index]
    emitted = np.ones(index.size, dtype=np.int64)
    while (alive := emitted < size[text]).any():
        index, text, gamma, emitted = index[alive], text[alive], gamma[alive], emitted[alive]
        asked = np.minimum(gamma, budget[text] - emitted - 1)
        took = np.minimum(lengths[trace.first_rows[text] + emitted - 1], asked)
        left = size[text] - emitted
        made[index, text, asked] += 1
        # an accepted last token is an EOS: what was drafted behind it does not count
        drafted[index, text, np.where(took == left, took, asked)] += 1
        taken[index, text, took] += 1
        emitted = emitted + np.minimum(took + 1, left)
    return [
        Replayed(
            length,
            taken[one, :, : length + 1],
            drafted[one, :, : length + 1],
            made[one, :, : length + 1],
            size - 1,
        )
        for one, length in enumerate(gammas)
    ]


class Nested:
    """All vocabularies that are the first K ids of one order.

    Args:
        trace: Of the drafter.
        order: [V] ids, a permutation: in which order vocabularies take them.

    Raises:
        TraceError: `order` is no permutation of all ids.
    """

    def __init__(self, trace: Trace, order: NDArray[np.int64]) -> None:
        if not np.array_equal(np.sort(order), np.arange(trace.vocab_size)):
            raise TraceError(f"an order must have each of the {trace.vocab_size} ids once")
        place = np.empty(trace.vocab_size, dtype=np.int64)
        place[order] = np.arange(trace.vocab_size)
        positions, ids = trace.rivals
        closes = np.full(trace.target_rank.size, trace.vocab_size, dtype=np.int64)
        np.minimum.at(closes, positions, place[ids])
        self._trace = trace
        self._opens = np.where(trace.ranked, place[trace.wanted], trace.vocab_size)
        self._closes = closes.reshape(trace.target_rank.shape)

    def accepted(self, size: int, *, refuse_open: bool = False) -> NDArray[np.bool_]:
        """Return [N, D] bool as `accepted` does, for the first `size` ids.

        Raises:
            OpenPositions: The candidates do not decide it, and `refuse_open` is
                not given.
        """
        result = (self._opens < size) & (size <= self._closes)
        return result & ~self._trace.undecided if refuse_open else _decided(self._trace, result)

    def open_at(self, size: int) -> int:
        """Return how many positions are open for the first `size` ids."""
        inside = (self._opens < size) & (size <= self._closes)
        return int((inside & self._trace.undecided).sum())

    @property
    def open(self) -> NDArray[np.int64]:
        """[n, 2] int64 rows and depths that are open for one size or more."""
        return np.argwhere(self._trace.undecided & (self._opens < self._closes))

    def replay(
        self, size: int, gammas: Sequence[int], *, refuse_open: bool = False
    ) -> list[Replayed]:
        """Return what decoding with the first `size` ids comes to.

        Args:
            size: K.
            gammas: Draft lengths.
            refuse_open: Take drafts at open positions as refused, which is what
                they nearly always are: among the many ids that rank above the
                target's token, one is likely to be inside.
        """
        inside = self.accepted(size, refuse_open=refuse_open)
        return walk(self._trace, runs(self._trace, inside), gammas)
