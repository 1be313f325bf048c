"""The keys of a run, their order, and what each number is made of."""

from __future__ import annotations

import json

import pytest

from vocabtrim.core.metrics import AcceptCounts, StepCost
from vocabtrim.core.results import HEADINGS, ArmCost, Decoded, RunResult, run_lines

KEYS = [
    *("target", "drafter", "family", "V", "K", "gamma", "prompts", "new_tokens", "cycles"),
    *("accepted_histogram", "block_efficiency", "acceptance_rate", "acceptance_by_position"),
    *("c", "c_read", "mbsu", "mbsu_read", "head_params", "head_share", "head_reads_per_cycle"),
    *("memory_delta_bytes", "drafter_params", "target_params", "tokens_per_second", "noise"),
    *("speedup", "lossless", "batch", "sampling", "domains"),
]
TARGET = StepCost(params=1000, head_params=300, step_bytes=4000, head_bytes=1200)
DRAFTER = StepCost(params=250, head_params=100, step_bytes=500, head_bytes=400, cycle_bytes=80)
ARM = ArmCost("T", TARGET, 96, "D", "eagle3", 10, DRAFTER, 400)
COUNTS = AcceptCounts.of_cycles(2, [(2, 2, 3), (2, 0, 1), (1, 1, 2)])
DECODED = Decoded(3, 9, COUNTS, 12.5, 0.01, 1.5, {"identical": 2, "rounding": 1, "of": 3})


def test_every_value_of_a_run() -> None:
    document = ARM.run(DECODED).to_json()
    assert list(document) == KEYS
    assert document == {
        "target": "T",
        "drafter": "D",
        "family": "eagle3",
        "V": 96,
        "K": 10,
        "gamma": 2,
        "prompts": 3,
        "new_tokens": 9,
        "cycles": 3,
        "accepted_histogram": [1, 1, 1],
        "block_efficiency": 2.0,
        "acceptance_rate": 0.6,
        "acceptance_by_position": [pytest.approx(2 / 3), 0.5],
        "c": 0.25,
        "c_read": 0.135,
        "mbsu": pytest.approx(2 / 1.5),
        "mbsu_read": pytest.approx(2 / 1.27),
        "head_params": 100,
        "head_share": pytest.approx(400 / 540),
        "head_reads_per_cycle": 2,
        "memory_delta_bytes": 400,
        "drafter_params": 250,
        "target_params": 1000,
        "tokens_per_second": 12.5,
        "noise": 0.01,
        "speedup": 1.5,
        "lossless": {"identical": 2, "rounding": 1, "of": 3},
        "batch": 1,
        "sampling": None,
        "domains": {},
    }
    assert json.loads(json.dumps(document)) == document


def test_what_autoregressive_decoding_has_no_answer_to_is_null() -> None:
    counts = AcceptCounts.of_cycles(0, [(0, 0, 1)] * 4)
    document = ArmCost("T", TARGET, 96).run(Decoded(1, 5, counts)).to_json()
    assert list(document) == KEYS
    null = {key for key in KEYS if document[key] is None}
    assert null == {
        *("drafter", "family", "K", "acceptance_rate", "c", "c_read", "head_params", "head_share"),
        *("head_reads_per_cycle", "memory_delta_bytes", "drafter_params"),
        *("tokens_per_second", "noise", "speedup", "lossless", "sampling"),
    }
    # one token a pass is its own measure
    assert (document["block_efficiency"], document["mbsu"], document["mbsu_read"]) == (1, 1, 1)
    assert document["accepted_histogram"] == [4]
    assert document["acceptance_by_position"] == []


def test_nothing_decoded_has_no_efficiency() -> None:
    run = ARM.run(Decoded(0, 0, AcceptCounts.zero(2)))
    assert (run.block_efficiency, run.mbsu, run.mbsu_read) == (None, None, None)
    assert run.c == 0.25


def test_domains_are_runs_of_their_own() -> None:
    part = Decoded(1, 4, AcceptCounts.of_cycles(2, [(2, 2, 3)]))
    document = ARM.run(DECODED, {"math": part, "code": DECODED}).to_json()
    assert list(document["domains"]) == ["math", "code"]
    assert list(document["domains"]["math"]) == KEYS
    assert document["domains"]["math"]["block_efficiency"] == 3.0
    assert document["domains"]["math"]["domains"] == {}
    assert document["domains"]["math"]["c"] == document["c"]


def test_the_table() -> None:
    plain = ArmCost("T", TARGET, 96).run(Decoded(1, 5, AcceptCounts.of_cycles(0, [(0, 0, 1)])))
    clean = ARM.run(Decoded(3, 9, COUNTS, lossless={"identical": 3, "rounding": 0, "of": 3}))
    lines = run_lines([plain, ARM.run(DECODED), clean])
    assert len(lines) == 4
    assert [word for word in HEADINGS if word not in lines[0]] == []
    assert lines[1].split() == ["none", "0", "1.000", "1.000", "1.000", "not", "checked"]
    assert lines[2].split() == [
        *("D", "10", "2", "2.000", "60.0%", "1.333", "1.575", "74%", "12.5", "1.50"),
        *("2/3", "+1", "rounding"),
    ]
    assert lines[3].endswith("  3/3")
    assert all(line == line.rstrip() for line in lines)


def test_a_thousand_ids_are_written_with_a_comma() -> None:
    arm = ArmCost("T", TARGET, 9999, "D", "eagle3", 4096, DRAFTER, 0)
    assert "4,096" in run_lines([arm.run(DECODED)])[1]


def test_the_fields_are_the_documented_keys() -> None:
    assert list(RunResult.__dataclass_fields__) == KEYS
