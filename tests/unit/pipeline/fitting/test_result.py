"""What is printed is what was found, in the order of the work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fitting import write_pair, write_traffic
from vocabtrim.pipeline.fit import Fit, fit
from vocabtrim.pipeline.fitting.result import FitResult


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    place = tmp_path_factory.mktemp("fit")
    target, drafter = write_pair(place)
    traffic = write_traffic(place / "log.jsonl", documents=100)
    return fit(Fit(str(drafter), str(target), [str(traffic)], "vllm", place / "out"))


def test_parts_in_order(result: FitResult) -> None:
    lines = result.lines()
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert titles == [
        "where the bytes are",
        "the traffic",
        "the draft vocabulary",
        "the drafter",
    ]
    (chosen,) = [line for line in lines if "← chosen" in line]
    assert f"{result.choice.K:,} rows" in chosen
    share = round(100 * result.choice.K / result.rows)
    assert f"({share:>3}%)" in chosen


def test_documents_of_the_verbs_are_inside(result: FitResult) -> None:
    document = result.to_json()["fit"]
    assert document["trim"]["K"] == document["choice"]["K"] == document["select"]["K"]
    assert document["count"]["documents"] == 100
    assert document["check"]["faults"] == 0
    assert document["export"]["form"] == "vllm"


def test_without_a_drafter_it_says_so(result: FitResult) -> None:
    nothing = replace(result, made=None, choice=replace(result.choice, trims=False))
    text = "\n".join(nothing.lines())
    assert "do not trim" in text
    assert "← chosen" not in text
    assert "nothing is made of it" in text
    assert "trim" not in nothing.to_json()["fit"]
    assert not nothing.faulty
