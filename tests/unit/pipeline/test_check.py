"""Every fault is found under its name, and clean drafters of every layout are not blamed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clean_drafters import CLEAN, specforge, speculators, target, trimmed, trimmed_lm
from tests.planted_faults import PLANTED, Planted, wanted
from vocabtrim.core.errors import CheckpointError, PluginError
from vocabtrim.pipeline.check import CheckResult, check
from vocabtrim.pipeline.checks.base import CHECKS, Severity, checks
from vocabtrim.pipeline.checks.subject import Form


def looked_at(planted: Planted, place: Path) -> CheckResult:
    path = planted.plant(place / "drafter")
    build = planted.target if callable(planted.target) else target
    verifier = build(place / "target") if planted.target else None
    vocab = wanted(place / "wanted.safetensors") if planted.vocab else None
    return check(str(path), target=None if verifier is None else str(verifier), vocab=vocab)


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_planted_fault_is_found_and_named(tmp_path: Path, planted: Planted) -> None:
    result = looked_at(planted, tmp_path)
    found = [one for one in result.findings if one.name == planted.check]
    assert found, [one.line() for one in result.findings]
    assert str(max(one.severity for one in found)) == planted.severity
    assert planted.minds in {effect.reader for one in found for effect in one.effects}
    assert result.failed(strict=False) == (result.count(Severity.FAULT) > 0)
    if planted.severity == "fault":
        assert result.failed(strict=False)


def test_every_check_has_a_fault_that_it_finds() -> None:
    names = {one.name for group in CHECKS.load_all().values() for one in group}
    assert names == {one.check for one in PLANTED}
    assert len({one.check for one in PLANTED if one.severity == "fault"}) >= 20


def test_no_check_reports_worse_than_it_says() -> None:
    worst = {one.name: one.severity for group in CHECKS.load_all().values() for one in group}
    for planted in PLANTED:
        assert Severity[planted.severity.upper()] <= worst[planted.check], planted.check


@pytest.mark.parametrize("with_target", [False, True], ids=["alone", "with target"])
@pytest.mark.parametrize("name", CLEAN)
def test_clean_drafters_are_not_blamed(tmp_path: Path, name: str, *, with_target: bool) -> None:
    path = CLEAN[name](tmp_path / "drafter")
    verifier = str(target(tmp_path / "target")) if with_target else None
    result = check(str(path), target=verifier)
    assert not result.failed(strict=False), [one.line() for one in result.findings]
    expected = {"ModelOpt", "FR-Spec"}
    assert result.failed(strict=True) == (name in expected)


def test_rows_that_are_right_are_said_to_be(tmp_path: Path) -> None:
    drafter = trimmed(tmp_path / "drafter")
    result = check(str(drafter), target=str(tmp_path / "its target"))
    (found,) = result.findings
    assert (found.name, found.severity) == ("rows", Severity.NOTE)
    assert "100% are nearest (cosine 1.000)" in found.what


def test_an_engine_that_is_named_alone_counts(tmp_path: Path) -> None:
    drafter = str(speculators(tmp_path / "s"))
    assert not check(drafter).findings
    assert not check(drafter, engines=["vllm"]).findings
    (found,) = check(drafter, engines=["sglang"]).findings
    assert (found.name, found.severity) == ("no-reader", Severity.FAULT)
    assert found.effects[0].reader == "sglang"


def test_a_directory_is_read_by_the_converter_of_an_engine(tmp_path: Path) -> None:
    for build in (specforge, speculators):
        drafter = build(tmp_path / build.__name__)
        names = [one.name for one in check(str(drafter), engines=["llama.cpp"]).findings]
        assert "no-reader" not in names
    lm = str(trimmed_lm(tmp_path / "lm" / "d"))
    assert "no-reader" in [one.name for one in check(lm, engines=["llama.cpp"]).findings]


def test_what_another_engine_minds_is_left_out(tmp_path: Path) -> None:
    planted = next(one for one in PLANTED if one.check == "map-not-needed")
    drafter = str(planted.plant(tmp_path / "drafter"))
    assert check(drafter, engines=["vllm"]).failed(strict=False)
    assert not check(drafter, engines=["sglang"]).findings
    with pytest.raises(PluginError, match="no engine is called 'nosuch'; there are llama"):
        check(drafter, engines=["nosuch"])


def test_lines_and_document_say_the_same(tmp_path: Path) -> None:
    planted = next(one for one in PLANTED if one.check == "head-missing")
    result = looked_at(planted, tmp_path)
    document = json.loads(json.dumps(result.to_json()))["check"]
    assert document["faults"] == 1
    assert [one["name"] for one in document["findings"]] == ["head-missing"]
    assert document["checks"] == [one.name for one in checks(Form.CHECKPOINT)]
    first, last = result.lines()
    assert first.startswith("fault  head-missing: it drafts over 64 of 256 ids")
    assert "vllm takes the first rows of the target's head, silently" in first
    assert last.endswith(f"1 fault, 0 losses, 0 notes; {len(document['checks'])} checks looked")


def test_the_worst_comes_first(tmp_path: Path) -> None:
    planted = next(one for one in PLANTED if str(one) == "rows-first")
    severities = [one.severity for one in looked_at(planted, tmp_path).findings]
    assert severities == sorted(severities, reverse=True)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a directory"):
        check(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    (found,) = check(str(tmp_path / "empty")).findings
    assert (found.name, found.severity) == ("unreadable", Severity.FAULT)


def test_what_no_family_knows_is_said(tmp_path: Path) -> None:
    drafter = specforge(tmp_path / "drafter")
    config = json.loads((drafter / "config.json").read_text())
    (drafter / "config.json").write_text(json.dumps({"vocab_size": config["vocab_size"]}))
    names = {one.name for one in check(str(drafter)).findings}
    assert "unknown-family" in names
