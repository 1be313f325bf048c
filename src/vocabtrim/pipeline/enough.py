"""Is the data enough? What `count` and `select` say of it, and their verdict.

The numbers are of `core/sufficiency.py` and `core/new_text.py`; here they become
sentences, and one of them is a verdict. It asks what twice the data would bring,
for that is what somebody who is not content can do:

* `count` does not know K. The data is enough where twice as much would show at
  most `ENOUGH` more of a new document's tokens: then it is for every K.
* `select` does. What the vocabulary covers of its own text and not of new text is
  all that any amount of data could bring; twice the data brings no larger a part
  of it than of the tokens unseen. It is enough where that is at most `ENOUGH`.

Each domain has to pass, for an average hides the one that does not. One point of
coverage moves the ceiling of block efficiency by some 2 %, about what a measurement
of speed can tell. All of it is about more text of the same kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.new_text import NewTextCoverage
from vocabtrim.core.sufficiency import FEWEST_TO_EXTRAPOLATE, REPEATS_BEYOND, Unseen, unseen

ENOUGH = 0.01
LOOPS_MATTER = 0.005
"""Share of the tokens from which on loops are worth a line."""

ONE_DOCUMENT = (
    "cannot be told: the data is one document, and nothing can be left out of it "
    "(count every answer, or article, as a document of its own)"
)
TOO_FEW = f"cannot be told: it takes {FEWEST_TO_EXTRAPOLATE} documents or more"
NOT_CHOSEN = (
    "nothing to judge: the ids do not follow from these counts (where they were chosen from "
    "the same text after all, they cover less of new text)"
)


@dataclass(frozen=True)
class Enough:
    """What is known of the amount of data.

    Args:
        unseen: What the data has not shown yet.
        gain: What twice the data would bring: of a new document's tokens, at
            most this share more would be seen (`count`) or covered (`select`);
            None where it cannot be told.
        gain_by_domain: The same for new documents of each domain.
        enough: The verdict; None where there is none.
        verdict: The same as a sentence.
        vocab_size: V.
    """

    unseen: Unseen
    gain: float | None
    gain_by_domain: Mapping[str, float]
    enough: bool | None
    verdict: str
    vocab_size: int

    def said(self) -> list[tuple[str, str]]:
        """Return what there is to say, each with its label; domains are indented."""
        found = self.unseen
        said = [("unseen", _share(found))]
        if found.repeats is not None and found.repeats >= LOOPS_MATTER:
            loops = (
                f"{found.repeats:.1%} of the tokens are an id's repeats beyond {REPEATS_BEYOND} "
                f"in its only document; counting with --cap-per-document {REPEATS_BEYOND} "
                "steadies the estimates"
            )
            said.append(("loops", loops))
        said.append(("never seen", f"{found.never_seen:,} of {self.vocab_size:,} ids"))
        for name, part in found.domains.items():
            share = "" if part.share is None else f"; {part.share:.1%} of new tokens unseen"
            said.append((f"  {name}", f"{part.never_seen:,} ids never seen{share}"))
        return [*said, ("enough?", self.verdict)]

    def lines(self, width: int) -> list[str]:
        """Return the same as lines, with labels of `width` columns."""
        return [f"{label:<{width}}{text}" for label, text in self.said()]


def enough_for_any(counts: TokenCounts) -> Enough:
    """Judge counts for a K that is not known yet: all that is unseen is at stake."""
    found = unseen(counts)
    at_stake = {name: part.share for name, part in found.domains.items()}
    said = _Said(
        "for every K",
        "twice the data would show {gain} more of a new {kind}document's tokens",
        "; `select` judges the K that you choose",
    )
    return _judged(counts, found, found.share, at_stake, said)


def enough_for(
    counts: TokenCounts,
    covered: float,
    covered_by_domain: Mapping[str, float],
    new_text: NewTextCoverage,
) -> Enough:
    """Judge counts for the vocabulary that was chosen from them.

    Args:
        counts: What it was chosen from.
        covered: Share of their tokens that it covers.
        covered_by_domain: The same for each domain.
        new_text: What it is expected to cover of new text.
    """
    at_stake = {
        name: _less(covered_by_domain[name], part.share) for name, part in new_text.domains.items()
    }
    said = _Said(
        "for this K", "twice the data would raise coverage of new {kind}text by {gain} at most"
    )
    return _judged(counts, unseen(counts), _less(covered, new_text.share), at_stake, said)


def not_chosen(counts: TokenCounts) -> Enough:
    """Say what is unseen, where the ids do not follow from the counts."""
    return Enough(unseen(counts), None, {}, None, NOT_CHOSEN, counts.vocab_size)


@dataclass(frozen=True)
class _Said:
    """How a verdict is put: for what, what twice the data brings, and what to do."""

    what_for: str
    brings: str
    hint: str = ""


def _judged(
    counts: TokenCounts,
    found: Unseen,
    at_stake: float | None,
    at_stake_by_domain: Mapping[str, float | None],
    said: _Said,
) -> Enough:
    gain = _gain(found, at_stake)
    if gain is None:
        untold = ONE_DOCUMENT if counts.n_documents < 2 else TOO_FEW
        return Enough(found, None, {}, None, untold, counts.vocab_size)
    by_domain = {
        name: one
        for name, part in found.domains.items()
        if (one := _gain(part, at_stake_by_domain[name])) is not None
    }
    most, worst = max([(gain, ""), *((one, f"{name} ") for name, one in by_domain.items())])
    enough = most <= ENOUGH
    brings = said.brings.format(gain=f"{most:.1%}", kind=worst)
    more = "" if enough else f" ({ENOUGH:.0%} or less is enough){said.hint}"
    verdict = f"{'enough' if enough else 'not enough'} {said.what_for}: {brings}{more}"
    return Enough(found, gain, by_domain, enough, verdict, counts.vocab_size)


def _gain(found: Unseen, at_stake: float | None) -> float | None:
    """The part of what is at stake that twice the data brings, as it does of the unseen."""
    if found.share is None or found.doubled is None or at_stake is None:
        return None
    return max(at_stake, 0.0) * (1.0 - found.doubled / found.share) if found.share else 0.0


def _less(covered: float, expected: float | None) -> float | None:
    return None if expected is None else covered - expected


def _share(found: Unseen) -> str:
    if found.share is None or found.interval is None:
        return ONE_DOCUMENT
    low, high = found.interval
    doubled = "" if found.doubled is None else f"; {found.doubled:.1%} with twice the data"
    return (
        f"{found.share:.1%} of a new document's tokens have an id that the data lacks "
        f"({100 * low:.1f} to {high:.1%}){doubled}"
    )
