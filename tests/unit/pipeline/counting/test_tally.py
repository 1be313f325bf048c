"""A tally: sums of outcomes, what was left out, and files that are not what they seem."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.pipeline.counting import tally as module
from vocabtrim.pipeline.counting.inputs import Place
from vocabtrim.pipeline.counting.tally import LeftOut, Tally
from vocabtrim.pipeline.counting.tasks import Outcome
from vocabtrim.sources.base import Skipped
from vocabtrim.tokens.id_counts import RunningCounts, SparseBatch, count_ids

V = 10


def outcome(
    *ids: int, skipped: tuple[Skipped, ...] = (), usable: dict[str, int] | None = None, at: int = 1
) -> Outcome:
    """Return the outcome of one document of these ids."""
    counts = count_ids(np.array(ids, dtype=np.int64), np.array([len(ids)], dtype=np.int64), V)
    batch = SparseBatch({frozenset(): counts}, int(not ids), Counter({"odd": 1}))
    return Outcome(Place(at, 0, 1), batch, skipped, usable or {})


def test_outcomes_add_up() -> None:
    tally = Tally(RunningCounts(V))
    tally.add(outcome(1, 1, 3, at=1))
    tally.add(outcome(at=2))
    tally.add(outcome(3, 4, at=3))
    assert (tally.tokens, tally.distinct, tally.documents, tally.empty) == (5, 3, 2, 1)
    assert tally.warnings == {"odd": 3}
    assert tally.place == Place(3, 0, 1)


def test_what_is_left_out_is_counted_by_reason_with_the_first_places() -> None:
    tally = Tally(RunningCounts(V))
    for line in range(1, 6):
        skipped = (Skipped("f", line, "no JSON"), Skipped("f", line, f"odd {line == 1}"))
        tally.add(outcome(1, skipped=skipped, usable={"f": 1}))
    assert tally.left_out["no JSON"] == LeftOut(5, [("f", 1), ("f", 2), ("f", 3)])
    assert tally.left_out["odd True"] == LeftOut(1, [("f", 1)])
    sentences = [entry.sentence(reason) for reason, entry in tally.left_out.items()]
    assert sentences[0] == (
        "5 records left out, no JSON (f, line 1, f, line 2, f, line 3, and 2 more)"
    )
    assert sentences[1] == "1 record left out, odd True (f, line 1)"


def test_reasons_beyond_what_is_kept_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REASONS_KEPT", 3)
    tally = Tally(RunningCounts(V))
    reasons = ["a", "b", "c", "d", "b", "e"]
    skipped = tuple(Skipped("f", line, reason) for line, reason in enumerate(reasons, 1))
    tally.add(outcome(1, skipped=skipped, usable={"f": 1}))
    assert {reason: entry.records for reason, entry in tally.left_out.items()} == {
        "a": 1,
        "b": 2,
        "c": 1,
        module.OTHER_REASONS: 2,
    }


def test_strict_names_the_first_record_and_counts_nothing() -> None:
    tally = Tally(RunningCounts(V))
    skipped = (Skipped("f", 4, "no JSON"), Skipped("f", 5, "no text"))
    with pytest.raises(CalibrationError, match=r"^f, line 4: no JSON$"):
        tally.add(outcome(1, skipped=skipped, usable={"f": 1}), strict=True)
    assert (tally.tokens, tally.place) == (0, Place.BEGINNING)


def test_a_file_without_anything_to_use_is_refused_when_it_ends() -> None:
    tally = Tally(RunningCounts(V))
    tally.add(outcome(1, usable={"good": 1}))
    tally.add(outcome(1, skipped=(Skipped("bad", 2, "no JSON"),), usable={"good": 1, "bad": 0}))
    tally.add(outcome(1, skipped=(Skipped("bad", 9, "no text"),), usable={"bad": 0}))
    with pytest.raises(CalibrationError, match=r"bad, line 2: nothing in this file.*no JSON"):
        tally.add(outcome(1, usable={"next": 1}))


def test_the_last_file_ends_when_it_is_said_to() -> None:
    tally = Tally(RunningCounts(V))
    tally.end_file()
    tally.add(outcome(1, skipped=(Skipped("bad", 2, "no JSON"),), usable={"bad": 0}))
    with pytest.raises(CalibrationError, match="bad, line 2"):
        tally.end_file()


def test_one_usable_record_is_enough_in_any_task() -> None:
    tally = Tally(RunningCounts(V))
    tally.add(outcome(1, skipped=(Skipped("f", 1, "no JSON"),), usable={"f": 0}))
    tally.add(outcome(1, usable={"f": 1}))
    tally.add(outcome(1, skipped=(Skipped("f", 3, "no JSON"),), usable={"f": 0}))
    tally.end_file()
    # a file in which there was nothing at all is no fault either
    tally.add(outcome(1, usable={"empty": 0}))
    tally.end_file()
