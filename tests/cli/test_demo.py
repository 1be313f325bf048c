"""`vocabtrim demo` as a user meets it; the work itself is tested in pipeline/test_demo.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from vocabtrim.core.metrics import AcceptCounts, StepCost
from vocabtrim.core.results import ArmCost, Decoded
from vocabtrim.pipeline.demo import DemoResult
from vocabtrim.pipeline.eval import EvalResult


@pytest.mark.parametrize(("lossless", "code"), [(True, 0), (False, 3)])
def test_the_table_is_printed_and_a_difference_is_an_exit_code(
    vocabtrim: Command, monkeypatch: pytest.MonkeyPatch, lossless: bool, code: int
) -> None:
    arm = ArmCost("demo", StepCost(100, 20, 400, 80), 50)
    run = arm.run(Decoded(1, 5, AcceptCounts.of_cycles(0, [(0, 0, 1)] * 4), 2.0, 0.01, 1.0))
    evaluation = EvalResult((run,), {} if lossless else {"none": ["p-1"]}, lossless)

    def small(output: Path, *, say: object) -> DemoResult:
        return DemoResult(str(output), 10, (), evaluation, {"count": 1.0})

    monkeypatch.setattr("vocabtrim.pipeline.demo.demo", small)
    outcome = vocabtrim("demo")
    assert outcome.code == code
    assert "noise of a measurement (A/A): 1.0%" in outcome.out
    assert "vocabtrim-demo/demo-report.json" in outcome.out
    assert ("p-1" in outcome.err) is not lossless
