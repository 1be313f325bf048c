from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from tests.benched import everything, summed
from vocabtrim.core.results import RunResult
from vocabtrim.pipeline.benching.gains import Ratio
from vocabtrim.pipeline.benching.result import HEADINGS, TextVerdict, fastest_line


def test_the_document_has_the_keys_of_every_run_first() -> None:
    document = json.loads(json.dumps(summed(everything()).to_json()))
    assert list(document) == ["runs", "bench"]
    keys = list(document["runs"][0])
    shared = [entry.name for entry in fields(RunResult)]
    assert keys[: len(shared)] == shared
    assert document["runs"][3]["over_base"]["value"] == pytest.approx(1.25)
    assert [run["drafter"] for run in document["runs"]] == [None, None, "full", "trimmed"]
    (gain,) = document["bench"]["gains"]
    assert gain["trim"] is True
    assert gain["verdict"].startswith("trim: trimmed is 1.250 [")
    assert document["bench"]["texts"][0]["passed"] is True
    assert document["bench"]["engine"] == "llama.cpp"
    assert document["bench"]["together"] is True


def test_a_reader_sees_noise_beside_every_ratio() -> None:
    lines = summed(everything()).lines()
    assert lines[0] == (
        "llama.cpp 1: 4 prompts × 3, at most 32 tokens, greedy; 4 servers up at once, "
        "1.5 s to start one"
    )
    table = [line for line in lines if "×" not in line and ":" not in line and line]
    assert table[0].split() == " ".join(HEADINGS).split()
    assert [line.split()[0] for line in table[1:]] == ["none", "none", "full", "trimmed"]
    assert all("2.0%" in line for line in table[1:])
    assert "0.625  1.250 [1.250, 1.250]  2.0%" in table[4]
    assert "text passed: texts of 4 that differ" in lines[-1]


def test_it_is_said_how_servers_were_up() -> None:
    result = summed(everything())
    alone = replace(result, facts={**result.facts, "together": False, "start_s": None})
    assert alone.lines()[0].endswith("greedy; one server up at a time")
    theirs = replace(result, facts={**result.facts, "base_url": "http://h/v1", "start_s": None})
    assert theirs.lines()[0].endswith("greedy; at http://h/v1")


def test_whether_speculation_pays_is_said_with_what_it_would_take() -> None:
    result = summed(everything())
    line = fastest_line(result.runs, 1)
    assert line.startswith("speculation does not pay here: trimmed at γ 2 is 0.625 times as fast")
    # the same cycles would have to emit 1 / 0.625 times as much
    assert line.endswith("it needs τ 3.20, not 2.00")
    quick = [replace(run, run=replace(run.run, speedup=1.5)) for run in result.runs]
    assert fastest_line(quick, 1).startswith("speculation pays: ")
    level = [replace(run, run=replace(run.run, speedup=1.01)) for run in result.runs]
    assert "does not pay here" in fastest_line(level, 1)
    assert "needs" not in fastest_line(level, 1)
    assert fastest_line(result.runs[:2], 1) == ""


def test_no_more_texts_may_differ_at_any_length() -> None:
    assert TextVerdict("t", "f", {1: (2, 2), 2: (0, 3)}, 8).passed
    worse = TextVerdict("t", "f", {1: (2, 2), 2: (4, 3)}, 8)
    assert not worse.passed
    assert worse.line().startswith("not passed: texts of 8")
    assert "γ 2: 4 against 3" in worse.line()


def test_a_ratio_without_an_interval_is_a_number() -> None:
    assert str(Ratio(1.5)) == "1.500"
