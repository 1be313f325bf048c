"""Counts are compared on equal texts, by one convention."""

from __future__ import annotations

import pytest

from benchmarks.engine_acceptance import Comparison, Own, compared, main
from vocabtrim.engines.serving.answers import Answer
from vocabtrim.engines.serving.base import EngineFailure
from vocabtrim.engines.serving.counters import Counted
from vocabtrim.pipeline.benching.rounds import Block

OWN = Own((1, 2, 3, 4, 5, 6, 7, 8), ((2, 1, 2), (2, 0, 1), (2, 2, 3), (2, 0, 1)))
"""The prefill's token, then cycles that bring the text to 3, 4, 7 and 8."""


def block(ids: tuple[int, ...] | None, counted: Counted | None) -> Block:
    return Block(0, 0, 0, answers=(Answer("k", "", ids, 5, 1.0, 1.0),), counted=counted)


@pytest.mark.parametrize(
    ("length", "cycles"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3), (7, 3), (8, 4)]
)
def test_cycles_count_up_to_the_one_that_reaches_the_end(length: int, cycles: int) -> None:
    assert len(OWN.until(length)) == cycles


def test_only_equal_texts_are_compared() -> None:
    counted = Counted(5, 3, 6, 3, (2, 1))
    blocks = [block((1, 2, 3, 4, 5), counted), block((1, 2, 9), Counted(3, 9, 18, 9, (9, 0)))]
    found = compared(blocks, [OWN, OWN], 2)
    assert found == Comparison(2, 1, (3, 3), (2, 1), (2, 1))
    assert found.difference == 0.0
    assert not found.passed
    assert compared(blocks[:1], [OWN], 2).passed


def test_counts_that_differ_do_not_pass() -> None:
    assert Comparison(10, 9, (100, 100), (50, 20), (50, 20)).passed
    assert Comparison(10, 9, (300, 300), (200, 101), (200, 100)).passed
    assert not Comparison(10, 9, (100, 100), (50, 21), (50, 20)).passed
    assert not Comparison(10, 8, (100, 100), (50, 20), (50, 20)).passed
    assert "largest difference 5.00%" in Comparison(1, 1, (9, 9), (21,), (20,)).lines()[-1]


def test_an_engine_that_counts_nothing_is_said() -> None:
    for one in (block(None, Counted()), block((1,), None)):
        with pytest.raises(EngineFailure, match="no token ids or no counts"):
            compared([one], [OWN], 2)


def test_a_missing_file_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere.jsonl", "--drafter", "d"]) == 2
    assert "no such file" in capsys.readouterr().err
