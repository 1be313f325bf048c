"""Errors carry their facts as fields, and an exit code each."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from vocabtrim.core import errors


def test_calibration_errors_name_file_and_line() -> None:
    fault = errors.CalibrationError("it is no JSON", path="a.jsonl", line=7)
    assert str(fault) == "a.jsonl, line 7: it is no JSON"
    assert (fault.path, fault.line) == ("a.jsonl", 7)
    assert str(errors.CalibrationError("it is empty", path="a.jsonl")) == "a.jsonl: it is empty"
    assert str(errors.CalibrationError("nothing was given")) == "nothing was given"


def test_a_mismatch_shows_both_fingerprints() -> None:
    fault = errors.TokenizerMismatch(
        "no", expected="sha256:" + "a" * 64, found="sha256:" + "b" * 64
    )
    assert "sha256:aaaaaaaaaaaa… against sha256:bbbbbbbbbbbb…" in str(fault)


@pytest.mark.parametrize(
    ("expected", "found", "differ"),
    [("sha256:a", "sha256:b", True), ("sha256:a", "sha256:a", False), (None, "sha256:b", False)],
)
def test_tokenizers_that_are_both_known_must_be_the_same(
    expected: str | None, found: str, differ: bool
) -> None:
    for one, other in ((expected, found), (found, expected)):
        if differ:
            with pytest.raises(errors.TokenizerMismatch, match="they are not"):
                errors.TokenizerMismatch.check("they are not", expected=one, found=other)
        else:
            errors.TokenizerMismatch.check("they are not", expected=one, found=other)


def test_checkpoint_errors_name_the_place() -> None:
    assert str(errors.CheckpointError("it is damaged", path="/d")) == "/d: it is damaged"
    assert str(errors.CheckpointError("it is damaged")) == "it is damaged"


def test_what_exists_says_how_to_replace_it() -> None:
    assert str(errors.OutputExists(Path("/d"))) == "/d exists; give --force to replace it"


def test_a_missing_extra_says_how_to_get_it() -> None:
    fault = errors.MissingExtra("decoding needs torch", "torch")
    assert str(fault) == "decoding needs torch: run `pip install vocabtrim[torch]`"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.VocabtrimError, 2),
        (errors.DecodeError, 2),
        (errors.EnvironmentFailure, 1),
        (errors.NotLossless, 3),
        (errors.Unfinished, 4),
    ],
)
def test_exit_codes(error: type[errors.VocabtrimError], code: int) -> None:
    assert error("x").exit_code == code


@pytest.mark.parametrize(
    "fault",
    [
        errors.CalibrationError("it is no JSON", path="a.jsonl", line=7),
        errors.TokenizerMismatch("no", expected="sha256:a", found="sha256:b"),
        errors.MissingExtra("decoding needs torch", "torch"),
        errors.OutputExists(Path("/d")),
        errors.EnvironmentFailure("the disk is full"),
    ],
)
def test_an_error_survives_the_way_between_processes(fault: errors.VocabtrimError) -> None:
    arrived = pickle.loads(pickle.dumps(fault))
    assert type(arrived) is type(fault)
    assert (str(arrived), vars(arrived)) == (str(fault), vars(fault))
