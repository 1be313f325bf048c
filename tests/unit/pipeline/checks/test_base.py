"""How bad a finding is follows from what readers do, and from which of them count."""

from __future__ import annotations

import pytest

from vocabtrim.pipeline.checks.base import (
    ALL,
    CHECKS,
    Check,
    Effect,
    Finding,
    Kind,
    Severity,
    checks,
    lacks,
    odd,
    refuses,
    said,
    slower,
    wrong,
)
from vocabtrim.pipeline.checks.subject import Form


@pytest.mark.parametrize(
    ("effect", "alone", "asked"),
    [
        (refuses("vllm", "x"), Severity.FAULT, Severity.FAULT),
        (wrong("vllm", "x"), Severity.FAULT, Severity.FAULT),
        (slower("vllm", "x"), Severity.LOSS, Severity.LOSS),
        (odd("vllm", "x"), Severity.NOTE, Severity.NOTE),
        (lacks("vllm", "x"), Severity.NOTE, Severity.FAULT),
    ],
)
def test_severity_follows_from_the_effect(effect: Effect, alone: int, asked: int) -> None:
    for readers, expected in (((), alone), (("vllm",), asked)):
        finding = Finding.of("name", said("it", effect), readers)
        assert finding is not None
        assert finding.severity == expected


def test_only_named_readers_count() -> None:
    found = said("it", wrong("vllm", "drafts"), slower("sglang", "pads"))
    both = Finding.of("n", found)
    one = Finding.of("n", found, ["sglang"])
    assert both is not None
    assert one is not None
    assert both.severity is Severity.FAULT
    assert one.severity is Severity.LOSS
    assert [effect.reader for effect in one.effects] == ["sglang"]
    assert Finding.of("n", found, ["llama.cpp"]) is None


def test_what_befalls_all_befalls_those_that_are_named() -> None:
    finding = Finding.of("n", said("it", refuses(ALL, "fails")), ["sglang"])
    assert finding is not None
    assert finding.severity is Severity.FAULT


def test_those_who_do_not_mind_are_left_out_beside_those_who_do() -> None:
    found = said("it", slower("SpecForge", "stops"), odd("vllm", "does not mind"))
    everyone, named = Finding.of("n", found), Finding.of("n", found, ["vllm"])
    assert everyone is not None
    assert named is not None
    assert [one.reader for one in everyone.effects] == ["SpecForge"]
    assert [one.reader for one in named.effects] == ["vllm"]


def test_a_line_names_check_cause_and_readers() -> None:
    finding = Finding.of("n", said("it", refuses("vllm", "stops"), wrong("sglang", "drafts")))
    assert finding is not None
    assert finding.line() == "fault  n: it → vllm stops; sglang drafts"
    assert finding.to_json() == {
        "name": "n",
        "severity": "fault",
        "what": "it",
        "effects": [
            {"reader": "vllm", "kind": "refuses", "what": "stops"},
            {"reader": "sglang", "kind": "wrong", "what": "drafts"},
        ],
    }


def test_groups_are_files_and_names_are_unique() -> None:
    groups = CHECKS.load_all()
    assert {"maps", "heads", "configs", "gguf", "lists"} <= set(groups)
    every = [one for group in groups.values() for one in group]
    assert all(isinstance(one, Check) and one.forms and one.looks_at for one in every)
    assert len({one.name for one in every}) == len(every)
    for form in Form:
        assert all(form in one.forms for one in checks(form))
    assert {one.name for form in Form for one in checks(form)} == {one.name for one in every}


def test_every_kind_has_a_severity() -> None:
    assert {kind.severity(asked=False) for kind in Kind} == set(Severity)
