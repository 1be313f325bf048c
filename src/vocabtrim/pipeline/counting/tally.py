"""What counting came to so far: the sum of all outcomes before a place.

Outcomes are added in the order of the tasks, so a tally is what one process
would have that had counted the data up to `place` alone, and it can be put away
and taken up again (`checkpoint.py`). It keeps little of what was left out: the
number of records for each reason, and where the first few stand.

A file of which nothing could be used is an error, for then it is not what its
owner took it for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from vocabtrim.core.errors import CalibrationError
from vocabtrim.pipeline.counting.inputs import Place
from vocabtrim.pipeline.counting.tasks import Outcome
from vocabtrim.sources.base import Skipped
from vocabtrim.tokens.id_counts import TOTAL, RunningCounts

PLACES_SHOWN = 3
REASONS_KEPT = 20
OTHER_REASONS = "for other reasons"


@dataclass
class LeftOut:
    """Records that were left out for one reason.

    Args:
        records: How many.
        places: The first few, each as a file and a line.
    """

    records: int = 0
    places: list[tuple[str, int]] = field(default_factory=list)

    def sentence(self, reason: str) -> str:
        """Return what a reader is told."""
        shown = ", ".join(f"{file}, line {line}" for file, line in self.places)
        more = self.records - len(self.places)
        return (
            f"{self.records:,} record{'s' * (self.records != 1)} left out, {reason} "
            f"({shown}{f', and {more:,} more' if more else ''})"
        )


@dataclass
class Tally:
    """Everything before a place, counted.

    Args:
        sums: Occurrences and document frequencies, by domain too.
        place: Where to go on.
        empty: Documents without a token that counts.
        warnings: Sentence to the number of documents that it is about.
        left_out: Reason to the records that were left out for it.
        file: The file that was read last.
        usable: Documents found in it so far.
        unusable: The first record of it that was left out.
    """

    sums: RunningCounts
    place: Place = Place.BEGINNING
    empty: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    file: str | None = None
    usable: int = 0
    unusable: Skipped | None = None

    def add(self, outcome: Outcome, *, strict: bool = False) -> None:
        """Add the outcome of the task that begins at `place`.

        Args:
            outcome: What the task came to.
            strict: A record that is left out is an error.

        Raises:
            CalibrationError: Nothing in a file could be used, or a record was left
                out and `strict` is given; names file and line.
        """
        if strict and outcome.skipped:
            raise _refused(outcome.skipped[0], "")
        first: dict[str, Skipped] = {}
        for skipped in outcome.skipped:
            self._leave_out(skipped)
            first.setdefault(skipped.file, skipped)
        for file, usable in outcome.usable.items():
            if file != self.file:
                self.end_file()
                self.file, self.usable, self.unusable = file, 0, None
            self.usable += usable
            self.unusable = self.unusable or first.get(file)
        self.sums.add(outcome.batch)
        self.empty += outcome.batch.empty
        self.warnings.update(outcome.batch.warnings)
        self.place = outcome.stop

    def end_file(self) -> None:
        """Say that the file that was read last has ended.

        Raises:
            CalibrationError: Nothing in it could be used; names file and line.
        """
        if not self.usable and self.unusable is not None:
            raise _refused(self.unusable, "nothing in this file can be used; the first record: ")

    @property
    def tokens(self) -> int:
        """Tokens counted."""
        return int(self.sums.counts[TOTAL].sum())

    @property
    def distinct(self) -> int:
        """Ids seen at least once."""
        return int(np.count_nonzero(self.sums.counts[TOTAL]))

    @property
    def documents(self) -> int:
        """Documents counted."""
        return self.sums.n_documents[TOTAL]

    def _leave_out(self, skipped: Skipped) -> None:
        reason = skipped.reason
        if reason not in self.left_out and len(self.left_out) >= REASONS_KEPT:
            reason = OTHER_REASONS
        entry = self.left_out.setdefault(reason, LeftOut())
        entry.records += 1
        if len(entry.places) < PLACES_SHOWN:
            entry.places.append((skipped.file, skipped.line))


def _refused(skipped: Skipped, remark: str) -> CalibrationError:
    return CalibrationError(remark + skipped.reason, path=skipped.file, line=skipped.line)
