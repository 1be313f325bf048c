"""What counts say of a vocabulary: where its rows come from, what it drops and covers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tiny_tokenizer import tokenizer
from tests.unit.core.documents import bursty_documents, counts_of
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.new_text import new_text_coverage, repeated_only
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.appraisal import MOST_DROPPED, DroppedId, appraise
from vocabtrim.pipeline.enough import NOT_CHOSEN
from vocabtrim.rules.base import Evidence
from vocabtrim.rules.top_k import TopK

NONE = np.array([], dtype=np.int64)
V = 3000


def counted(n_documents: int = 60, *, domains: bool = False) -> TokenCounts:
    documents = bursty_documents(n_documents, V, 5)
    names = [("a", "b")[n % 2] for n in range(n_documents)] if domains else None
    return counts_of(documents, V, names)


def chosen(evidence: Evidence, k: int, kept: NDArray[np.int64] = NONE) -> DraftVocab:
    return TopK(k, exact=True).select(evidence, kept)


def test_what_new_text_is_expected_to_see_follows_the_rules_own_ranking() -> None:
    counts = counted()
    base = counts_of([list(range(2000, V))], V)
    evidence = Evidence(counts, base)
    kept = np.array([7, 11])
    vocab = chosen(evidence, 2300, kept)
    found = appraise(vocab, evidence, kept)
    # ids of a single document stand in the fill where the rule puts ids that were not seen
    order = Evidence(repeated_only(counts), base).ranking(kept)
    expected = new_text_coverage(counts, vocab, kept=kept, fill_order=order)
    assert found.new_text.share == expected.share
    assert found.new_text.share != new_text_coverage(counts, vocab, kept=kept).share
    assert found.new_text.share is not None
    assert found.new_text.share < found.coverage


def test_weights_enter_the_expectation() -> None:
    counts = counted(domains=True)
    evidence = Evidence(counts, None, {"a": 5.0})
    vocab = chosen(evidence, 200)
    found = appraise(vocab, evidence, NONE)
    plain = new_text_coverage(counts, vocab, kept=NONE)
    weighed = new_text_coverage(counts, vocab, kept=NONE, frequency=evidence.frequency)
    assert found.new_text.share == weighed.share != plain.share


def test_ids_that_do_not_follow_from_the_counts_cover_new_text_as_they_cover_these() -> None:
    counts = counted(domains=True)
    vocab = DraftVocab(np.arange(0, V, 3), V, "t")
    found = appraise(vocab, Evidence(counts), NONE, chosen=False)
    assert found.new_text.share == pytest.approx(found.coverage)
    assert found.new_text.low == pytest.approx(found.coverage)
    assert found.new_text.domains["a"].share == pytest.approx(found.coverage_by_domain["a"])
    assert found.enough.verdict == NOT_CHOSEN


def test_the_most_frequent_dropped_ids(tmp_path: Path) -> None:
    opened = tokenizer(tmp_path / "tokenizer")
    words = opened.encode("then, sand!")
    size = opened.vocab_size
    counts = counts_of([words, words[:-1], words[:-1]], size)
    vocab = DraftVocab(words[:1], size, "t")
    found = appraise(vocab, Evidence(counts), NONE, tokenizer=opened)
    assert found.dropped_seen == counts.n_distinct - 1
    assert [one.id for one in found.dropped] == [
        one for one in counts.order().tolist() if counts.counts[one] and one != words[0]
    ]
    assert found.dropped[-1].count == 1
    assert "!" in [one.text for one in found.dropped]
    assert found.dropped[0].count >= found.dropped[-1].count
    without = appraise(vocab, Evidence(counts), NONE)
    assert {one.text for one in without.dropped} == {None}


def test_how_a_dropped_id_is_shown() -> None:
    assert str(DroppedId(5, 1200, ' a"\n')) == r'" a\"\n" ×1,200'
    assert str(DroppedId(5, 3, None)) == "id 5 ×3"


def test_more_ids_than_a_line_holds() -> None:
    counts = counts_of([list(range(100))] * 2, 200)
    found = appraise(DraftVocab(np.array([0]), 200, "t"), Evidence(counts), NONE)
    assert len(found.dropped) == MOST_DROPPED
    (line,) = (line for line in found.lines(1, 12) if line.startswith("dropped"))
    assert line == "dropped     " + ", ".join(f"id {n} ×2" for n in range(1, 11)) + ", …"


def test_the_lines() -> None:
    counts = counted(domains=True)
    found = appraise(chosen(Evidence(counts), 2500), Evidence(counts), NONE)
    lines = found.lines(2500, 14)
    labels = [line[:14].strip() for line in lines]
    expected = ["ids", "fill", "coverage", "of new text", "a", "b", "unseen", "never seen"]
    assert labels == [*expected, "a", "b", "enough?"]
    assert f"{counts.n_distinct:,} seen in calibration" in lines[0]
    assert f"{2500 - counts.n_distinct:,} in ascending id" in lines[1]
    # where every id seen is kept, expectation and lower bound are one
    assert lines[3] == f"  of new text {found.new_text.share:.1%} expected"
    few = appraise(chosen(Evidence(counts), 100), Evidence(counts), NONE)
    assert few.new_text.low is not None
    assert f"expected, {few.new_text.low:.1%} at least" in "\n".join(few.lines(100, 14))
    assert "fill" not in {line[:14].strip() for line in few.lines(100, 14)}


@pytest.mark.parametrize("n_documents", [1, 8])
def test_of_few_documents_nothing_is_expected(n_documents: int) -> None:
    counts = counts_of([[1, 2, n + 3] for n in range(n_documents)], 20, ["a"] * n_documents)
    found = appraise(chosen(Evidence(counts), 2), Evidence(counts), NONE)
    assert found.new_text.share is None
    lines = found.lines(2, 14)
    assert "  of new text cannot be told: it takes 9 documents or more" in lines
    assert any(
        line.endswith("; of new text cannot be told: it takes 9 documents or more")
        for line in lines
    )
    # a list of its own owes nothing to them
    listed = appraise(chosen(Evidence(counts), 2), Evidence(counts), NONE, chosen=False)
    assert n_documents == 1 or listed.new_text.share == found.coverage


def test_of_nine_documents_something_is() -> None:
    counts = counts_of([[1, 2, n + 3] for n in range(9)], 20)
    found = appraise(chosen(Evidence(counts), 2), Evidence(counts), NONE)
    assert found.new_text.share == pytest.approx(2 / 3)
