"""What the counts say of a draft vocabulary, chosen from them or not.

How much it covers of the text that was counted, what that means for new text,
which frequent ids it leaves out, where the rows come from that no token asked
for, and whether the data was enough. Text that was held out is `held_out.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.new_text import NewTextCoverage, new_text_coverage, repeated_only
from vocabtrim.core.sufficiency import FEWEST_TO_EXTRAPOLATE
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.enough import TOO_FEW, Enough, enough_for, not_chosen
from vocabtrim.rules.base import Evidence
from vocabtrim.tokens.tokenizer import Tokenizer

MOST_DROPPED = 50
"""Dropped ids in the result; a line has room for fewer."""

DROPPED_SHOWN = 10


@dataclass(frozen=True)
class DroppedId:
    """An id that occurs in the data and is left out.

    Args:
        id: The id.
        count: How often it occurs.
        text: What a reader sees of it; None without a tokenizer.
    """

    id: int
    count: int
    text: str | None

    def __str__(self) -> str:
        # as a JSON string, so that spaces, line ends and quotes can be told apart
        shown = f"id {self.id}" if self.text is None else json.dumps(self.text, ensure_ascii=False)
        return f"{shown} ×{self.count:,}"


@dataclass(frozen=True)
class Appraisal:
    """What counts say of a draft vocabulary.

    Args:
        kept: Ids that are in it whatever their count.
        seen: Ids of the vocabulary that occur in the calibration data.
        filled_from_base: Ids taken from the base counts.
        filled_ascending: Ids taken in ascending order, having been seen nowhere.
        dropped_seen: Ids that occur in the data and are left out.
        dropped: The most frequent of them.
        coverage: Share of the calibration tokens covered.
        coverage_by_domain: The same for each domain.
        new_text: What it is expected to cover of new text, by domain too.
        enough: Whether the data was enough.
    """

    kept: int
    seen: int
    filled_from_base: int
    filled_ascending: int
    dropped_seen: int
    dropped: tuple[DroppedId, ...]
    coverage: float
    coverage_by_domain: Mapping[str, float]
    new_text: NewTextCoverage
    enough: Enough

    @property
    def filled(self) -> int:
        """Rows that no calibration token asked for."""
        return self.filled_from_base + self.filled_ascending

    def to_json(self) -> dict[str, Any]:
        """Return it as a document."""
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        """Return what a manifest remembers of it."""
        return {
            "kept": self.kept,
            "seen": self.seen,
            "filled_from_base": self.filled_from_base,
            "filled_ascending": self.filled_ascending,
            "dropped_seen": self.dropped_seen,
            "coverage": self.coverage,
            "coverage_by_domain": dict(self.coverage_by_domain),
            "new_text_coverage": self.new_text.share,
            "unseen": self.enough.unseen.share,
            "enough": self.enough.verdict,
        }

    def lines(self, rows: int, width: int) -> list[str]:
        """Return it as lines for a reader.

        Args:
            rows: K.
            width: Columns of the labels.
        """
        lines = [
            f"{'ids':<{width}}{self.seen:,} seen in calibration, {self.kept:,} kept whatever "
            f"their count; {self.dropped_seen:,} seen ids dropped"
        ]
        if self.filled:
            lines.append(
                f"{'fill':<{width}}{self.filled / rows:.1%} of rows: {self.filled_from_base:,} "
                f"from base counts, {self.filled_ascending:,} in ascending id"
            )
        if self.dropped:
            shown = ", ".join(map(str, self.dropped[:DROPPED_SHOWN]))
            more = ", …" if self.dropped_seen > DROPPED_SHOWN else ""
            lines.append(f"{'dropped':<{width}}{shown}{more}")
        lines += [
            f"{'coverage':<{width}}{self.coverage:.2%} of the calibration tokens themselves",
            f"{'  of new text':<{width}}{_expected(self.new_text)}",
        ]
        for name, share in sorted(self.coverage_by_domain.items(), key=lambda one: one[1]):
            expected = _expected(self.new_text.domains[name])
            lines.append(f"  {name:<{width - 2}}{share:.2%}; of new text {expected}")
        return [*lines, *self.enough.lines(width)]


def appraise(
    vocab: DraftVocab,
    evidence: Evidence,
    must_keep: NDArray[np.int64],
    *,
    chosen: bool = True,
    tokenizer: Tokenizer | None = None,
) -> Appraisal:
    """Say what counts tell of a draft vocabulary.

    Args:
        vocab: The vocabulary.
        evidence: What it was chosen from, or is to be judged by.
        must_keep: Ids that are in it whatever their counts.
        chosen: Whether the others follow from the counts.
        tokenizer: To show the text of ids.
    """
    counts = evidence.counts
    unasked = np.setdiff1d(vocab.ids[counts.counts[vocab.ids] == 0], must_keep)
    from_base = 0
    if evidence.base is not None:
        from_base = int(np.count_nonzero(evidence.base.counts[unasked]))
    seen = int(np.count_nonzero(counts.counts[vocab.ids]))
    coverage = counts.coverage(vocab.ids)
    by_domain = {name: part.coverage(vocab.ids) for name, part in counts.domains.items()}
    new_text = _new_text(vocab, evidence, must_keep, chosen=chosen)
    return Appraisal(
        kept=int(must_keep.size),
        seen=seen,
        filled_from_base=from_base,
        filled_ascending=int(unasked.size) - from_base,
        dropped_seen=counts.n_distinct - seen,
        dropped=_dropped(vocab, evidence, tokenizer),
        coverage=coverage,
        coverage_by_domain=by_domain,
        new_text=new_text,
        enough=enough_for(counts, coverage, by_domain, new_text) if chosen else not_chosen(counts),
    )


def _new_text(
    vocab: DraftVocab, evidence: Evidence, must_keep: NDArray[np.int64], *, chosen: bool
) -> NewTextCoverage:
    if not chosen:
        return new_text_coverage(evidence.counts, vocab, kept=vocab.ids)
    if evidence.counts.n_documents < FEWEST_TO_EXTRAPOLATE:
        # without one of a few documents all ranks move, which the estimate takes to stay
        return NewTextCoverage(
            None, None, dict.fromkeys(evidence.counts.domains, NewTextCoverage(None, None))
        )
    without_singles = Evidence(repeated_only(evidence.counts), evidence.base, evidence.weights)
    return new_text_coverage(
        evidence.counts,
        vocab,
        kept=must_keep,
        fill_order=without_singles.ranking(must_keep),
        frequency=evidence.frequency,
    )


def _dropped(
    vocab: DraftVocab, evidence: Evidence, tokenizer: Tokenizer | None
) -> tuple[DroppedId, ...]:
    counts = evidence.counts
    order = counts.order()

    def text(token_id: int) -> str | None:
        return None if tokenizer is None else tokenizer.token_text(token_id)

    left_out = order[~vocab.over(counts.vocab_size).t2d[order] & (counts.counts[order] > 0)]
    return tuple(
        DroppedId(one, int(counts.counts[one]), text(one))
        for one in left_out[:MOST_DROPPED].tolist()
    )


def _expected(found: NewTextCoverage) -> str:
    if found.share is None or found.low is None:
        return TOO_FEW
    low = f", {found.low:.1%} at least" if found.low < found.share else ""
    return f"{found.share:.1%} expected{low}"
