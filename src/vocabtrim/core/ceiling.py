"""The perfect-drafter ceiling: what a draft vocabulary alone allows.

A drafter that is always right inside the vocabulary and wrong outside it gains
all that any drafter with this vocabulary can, and its cycles follow from the
text: no model runs. Coverage does not say it, for tokens outside come in
bursts, and one cycle that misses three costs less than three that miss one.

Walking a text as greedy decoding does, by the conventions of `metrics.py`: the
prefill emits the first token; a cycle accepts up to the first token outside,
emits that one too, and the next begins behind it. So no cycle crosses a token
outside, and the text falls into stretches, each up to and with such a token or
the end. A stretch of m tokens takes ceil(m / (gamma + 1)) cycles, of which all
but the last accept gamma. That is one histogram of the stretches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.vocab import DraftVocab

GAMMAS = tuple(range(1, 9))


@dataclass(frozen=True, eq=False)
class Generations:
    """Generated texts, laid end to end without their first tokens.

    Made by `Generations.of`; the constructor trusts its arguments.

    Args:
        ids: [T] int64 tokens that cycles emit.
        stops: [G] int64 where each text ends, exclusive; none is empty.
        ended: [G] bool, whether its last token is one that ends a generation.
            Then more tokens could have been drafted; otherwise the text was cut
            off, and R tokens before its end min(gamma, R - 1) are drafted.
    """

    ids: NDArray[np.int64]
    stops: NDArray[np.int64]
    ended: NDArray[np.bool_]

    @classmethod
    def of(cls, documents: Sequence[NDArray[np.int64]], ends: Sequence[int] = ()) -> Generations:
        """Cut documents into generations.

        Args:
            documents: [T] ids each, the tokens that a model emitted.
            ends: Ids that end a generation (EOS, turn ends). A document is cut
                behind each of them: its turns were generated one by one.
        """
        lengths = np.array([ids.size for ids in documents], dtype=np.int64)
        tokens = np.concatenate([np.empty(0, dtype=np.int64), *documents])
        is_end = np.isin(tokens, np.array(list(ends), dtype=np.int64))
        last = is_end.copy()
        last[np.cumsum(lengths)[lengths > 0] - 1] = True
        first = np.ones(tokens.size, dtype=np.bool_)
        first[1:] = last[:-1]
        # a text of one token is all prefill
        stops = np.flatnonzero(last[~first]) + 1
        return cls(tokens[~first], stops, is_end[~first][stops - 1])


def ceiling(
    generations: Generations, vocab: DraftVocab, gammas: Sequence[int] = GAMMAS
) -> tuple[AcceptCounts, ...]:
    """Count the cycles of a perfect drafter over `vocab`.

    Args:
        generations: Held-out texts.
        vocab: What the drafter can propose.
        gammas: Draft lengths, each 1 or more.

    Returns:
        One AcceptCounts for each of `gammas`; its `block_efficiency` is the
        ceiling.

    Raises:
        CalibrationError: An id lies outside the vocabulary's V, or a draft
            length is below 1.
    """
    ids = generations.ids
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab.vocab_size:
        raise CalibrationError(
            f"ids run from {ids.min()} to {ids.max()}, "
            f"but the draft vocabulary is over {vocab.vocab_size} ids"
        )
    if any(gamma < 1 for gamma in gammas):
        raise CalibrationError(f"draft lengths must be 1 or more, found {min(gammas)}")
    closes = ~vocab.t2d[ids]
    outside = closes.copy()
    closes[generations.stops - 1] = True
    closing = np.flatnonzero(closes)
    stretches = np.diff(closing, prepend=-1)
    owner = np.searchsorted(generations.stops, closing, side="right")
    # tokens of the generation behind the stretch; none but EOS bounds one that ended
    behind = generations.stops[owner] - 1 - closing
    behind[generations.ended[owner]] = max(gammas, default=0)
    whole = ~outside[closing] & generations.ended[owner]
    return tuple(_cycles(gamma, stretches, behind, whole) for gamma in gammas)


def _cycles(
    gamma: int, stretches: NDArray[np.int64], behind: NDArray[np.int64], whole: NDArray[np.bool_]
) -> AcceptCounts:
    """Count the cycles at one draft length.

    Args:
        gamma: Draft length.
        stretches: [S] tokens of each stretch, the closing one included.
        behind: [S] tokens that could still have followed it.
        whole: [S] whether the closing token is an accepted end of sequence.
    """
    before = (stretches - 1) // (gamma + 1)
    emitted = stretches - before * (gamma + 1)
    # an end of sequence is accepted as a draft, unless it is the bonus token
    by_draft = whole & (emitted <= gamma)
    accepted = np.where(by_draft, emitted, emitted - 1)
    drafted = np.where(by_draft, emitted, np.minimum(gamma, emitted + behind - 1))
    full = np.zeros(gamma + 1, dtype=np.int64)
    full[gamma] = before.sum()
    return AcceptCounts(
        full + np.bincount(accepted, minlength=gamma + 1),
        full + np.bincount(drafted, minlength=gamma + 1),
        int(stretches.sum()),
    )
