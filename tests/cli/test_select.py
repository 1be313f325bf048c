"""`vocabtrim select` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from vocabtrim.core.vocab_file import read_vocab


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (["--top-k", "3"], [0, 1, 2]),
        (["--top-p", "0.6"], [0, 1, 2]),
        (["--min-count", "2"], [0, 1, 2]),
        (["--first", "4"], [0, 1, 2, 3]),
        (["--rule", "top_k:k=3,exact=true"], [0, 1, 2]),
    ],
)
def test_each_way_to_choose(
    vocabtrim: Command, counts: Path, tmp_path: Path, how: list[str], expected: list[int]
) -> None:
    exact = [] if how[0] == "--rule" else ["--exact-k"]
    outcome = vocabtrim("select", counts, *how, *exact, "-o", tmp_path / "v")
    assert outcome.code == 0, outcome.err
    assert read_vocab(tmp_path / "v")[0].ids.tolist() == expected


def test_k_is_rounded_to_64_at_most_v(vocabtrim: Command, counts: Path, tmp_path: Path) -> None:
    vocabtrim("select", counts, "--top-k", 3, "-o", tmp_path / "v")
    assert read_vocab(tmp_path / "v")[0].is_full


def test_what_is_printed_and_written(vocabtrim: Command, counts: Path, tmp_path: Path) -> None:
    outcome = vocabtrim(
        *("select", counts, "--top-k", 3, "--exact-k", "-o", tmp_path / "v"),
        *("--json", tmp_path / "r.json"),
    )
    assert "3 of 10 ids" in outcome.out
    assert "62.50% of the calibration tokens" in outcome.out
    result = json.loads((tmp_path / "r.json").read_text())["select"]
    assert (result["K"], result["V"], result["kept"], result["dropped_seen"]) == (3, 10, 1, 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "exactly one of --top-k"),
        (["--top-k", "3", "--first", "3"], "exactly one of --top-k"),
        (["--top-k", "0"], "between 1 and the 10 ids there are, found 0"),
        (["--top-k", "11"], "between 1 and the 10 ids there are, found 11"),
        (["--top-p", "1.5"], "top-p must lie in (0, 1], found 1.5"),
        (["--rule", "nosuch:k=1"], "no selection rule is called 'nosuch'"),
        (["--rule", "top_k:k=3", "--exact-k"], "write exact=true among the rule's options"),
        (["--top-k", "3", "--weight", "code"], "--weight takes DOMAIN=NUMBER, found 'code'"),
        (["--top-k", "3", "--weight", "code=2"], "no domain 'code' to weight"),
        (["--top-k", "3", "--keep", "77"], "--keep names id 77, but ids run from 0 to 9"),
        (["--top-k", "1", "--exact-k", "--keep", "4,5"], "the smallest K is 3"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    vocabtrim: Command, counts: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    outcome = vocabtrim("select", counts, *options, "-o", tmp_path / "v")
    assert outcome.code == 2
    assert says in outcome.err
    assert not (tmp_path / "v").exists()


def test_an_existing_output_needs_force(vocabtrim: Command, counts: Path, tmp_path: Path) -> None:
    (tmp_path / "v").write_text("mine")
    outcome = vocabtrim("select", counts, "--top-k", 3, "-o", tmp_path / "v")
    assert outcome.code == 2
    assert (tmp_path / "v").read_text() == "mine"
    assert vocabtrim("select", counts, "--top-k", 3, "-o", tmp_path / "v", "--force").code == 0
