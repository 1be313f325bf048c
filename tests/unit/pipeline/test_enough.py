"""The verdict on the amount of data, and what is printed of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.core.documents import bursty_documents, counts_of
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.new_text import NewTextCoverage
from vocabtrim.core.sufficiency import unseen
from vocabtrim.pipeline import enough
from vocabtrim.pipeline.enough import ENOUGH, enough_for, enough_for_any, not_chosen

V = 5000
WIDTH = 12


def bursty(n_documents: int, domains: list[str] | None = None) -> TokenCounts:
    return counts_of(bursty_documents(n_documents, V, 1), V, domains)


def test_without_k_the_gain_is_what_twice_the_data_would_show() -> None:
    counts = bursty(40)
    found, judged = unseen(counts), enough_for_any(counts)
    assert found.share is not None
    assert found.doubled is not None
    assert judged.gain == pytest.approx(found.share - found.doubled)
    assert judged.gain > ENOUGH
    assert judged.enough is False
    assert judged.verdict.startswith("not enough for every K: twice the data would show")
    assert f"{judged.gain:.1%} more of a new document's tokens" in judged.verdict
    assert "`select` judges" in judged.verdict


def test_data_that_repeats_itself_is_enough() -> None:
    judged = enough_for_any(counts_of([[1, 2]] * 10, 5))
    assert (judged.gain, judged.enough) == (0.0, True)
    assert judged.verdict == (
        "enough for every K: twice the data would show 0.0% more of a new document's tokens"
    )


def test_for_a_vocabulary_twice_the_data_brings_the_same_part_as_of_the_unseen() -> None:
    counts = bursty(40)
    found = unseen(counts)
    assert found.share is not None
    assert found.doubled is not None
    judged = enough_for(counts, 0.9, {}, NewTextCoverage(0.8, 0.7))
    assert judged.gain == pytest.approx(0.1 * (1 - found.doubled / found.share))
    assert judged.enough is False
    assert "not enough for this K" in judged.verdict
    # a vocabulary that covers new text as well as its own gains nothing
    for expected in (0.9, 0.95):
        assert enough_for(counts, 0.9, {}, NewTextCoverage(expected, 0.7)).gain == 0.0


def test_the_threshold_itself_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = bursty(40)
    gain = enough_for_any(counts).gain
    assert gain is not None
    monkeypatch.setattr(enough, "ENOUGH", gain)
    assert enough_for_any(counts).enough is True
    monkeypatch.setattr(enough, "ENOUGH", gain * 0.999)
    assert enough_for_any(counts).enough is False


def test_the_worst_domain_decides() -> None:
    documents = [[1, 2]] * 400 + bursty_documents(20, V, 3)
    counts = counts_of(documents, V, ["flat"] * 400 + ["rich"] * 20)
    judged = enough_for_any(counts)
    assert judged.gain_by_domain["flat"] == 0.0
    assert judged.gain is not None
    assert judged.gain_by_domain["rich"] > judged.gain
    assert "more of a new rich document's tokens" in judged.verdict
    # for a vocabulary too: the whole covers new text, one domain does not
    expected = NewTextCoverage(
        0.9, 0.9, {"flat": NewTextCoverage(0.9, 0.9), "rich": NewTextCoverage(0.5, 0.4)}
    )
    judged = enough_for(counts, 0.9, {"flat": 0.9, "rich": 0.9}, expected)
    assert (judged.gain, judged.enough) == (0.0, False)
    assert "coverage of new rich text" in judged.verdict


@pytest.mark.parametrize(
    ("documents", "says"), [([[1, 2, 2]], "one document"), ([[n, 0] for n in range(8)], "takes 9")]
)
def test_too_few_documents_give_no_verdict(documents: list[list[int]], says: str) -> None:
    counts = counts_of(documents, 12)
    for judged in (
        enough_for_any(counts),
        enough_for(counts, 0.9, {}, NewTextCoverage(None, None)),
        enough_for(counts, 0.9, {}, NewTextCoverage(0.8, 0.7)),
    ):
        assert (judged.gain, judged.enough) == (None, None)
        assert judged.verdict.startswith("cannot be told")
        assert says in judged.verdict
        assert judged.lines(WIDTH)[-1].endswith(judged.verdict)


def test_a_list_that_was_not_chosen_has_no_verdict() -> None:
    judged = not_chosen(bursty(40))
    assert (judged.gain, judged.enough) == (None, None)
    assert judged.unseen.share is not None
    assert judged.verdict.startswith("nothing to judge")


def test_the_lines() -> None:
    documents = bursty_documents(40, V, 1)
    documents[0] = np.concatenate([documents[0], np.full(900, V - 1)])
    counts = counts_of(documents, V, ["a"] * 20 + ["b"] * 20)
    judged = enough_for_any(counts)
    lines = judged.lines(WIDTH)
    found = judged.unseen
    assert found.share is not None
    assert found.interval is not None
    low, high = found.interval
    assert lines[0].startswith(f"{'unseen':<{WIDTH}}{found.share:.1%} of a new document's tokens")
    assert f"({100 * low:.1f} to {high:.1%}); {found.doubled:.1%} with twice" in lines[0]
    assert f"{found.repeats:.1%} of the tokens are an id's repeats" in lines[1]
    assert lines[2] == f"{'never seen':<{WIDTH}}{V - counts.n_distinct:,} of {V:,} ids"
    part = found.domains["a"]
    assert part.share is not None
    assert lines[3] == (
        f"  {'a':<{WIDTH - 2}}{V - counts.domains['a'].n_distinct:,} ids never seen; "
        f"{part.share:.1%} of new tokens unseen"
    )
    assert lines[5] == f"{'enough?':<{WIDTH}}{judged.verdict}"
    assert len(lines) == 6


def test_loops_that_do_not_matter_have_no_line() -> None:
    lines = enough_for_any(bursty(40)).lines(WIDTH)
    assert [line[:WIDTH].strip() for line in lines] == ["unseen", "never seen", "enough?"]
