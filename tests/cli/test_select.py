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
        (["--top-k", "3", "--as", "ids"], "--as says what the file of --ids holds"),
        (["--top-k", "3", "--held-out", "x.jsonl"], "say with which tokenizer (--tokenizer T)"),
        (["--ids", "x.json", "--top-k", "3"], "--ids takes a list as it is"),
        (["--ids", "x.json", "--keep", "none"], "--ids takes a list as it is"),
        (["--ids", "x.json", "--as", "rows"], "--as takes ids or offsets, found 'rows'"),
        (["--ids", "x.json"], "x.json: no such file"),
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


def test_without_counts_there_is_nothing_to_choose_from(vocabtrim: Command, tmp_path: Path) -> None:
    outcome = vocabtrim("select", "--top-k", 3, "-o", tmp_path / "v")
    assert outcome.code == 2
    assert "say what to choose from: COUNTS…, or --ids FILE" in outcome.err


def test_what_is_said_of_new_text(
    vocabtrim: Command, counts: Path, words: Path, tmp_path: Path
) -> None:
    choosing = ("select", counts, "--top-k", 3, "--exact-k", "-o", tmp_path / "v", "--force")
    outcome = vocabtrim(*choosing)
    # of five ids, three are in one document each
    assert "  of new text     cannot be told: it takes 9 documents or more" in outcome.out
    assert "37.5% of a new document's tokens have an id that the data lacks" in outcome.out
    assert "never seen        5 of 10 ids" in outcome.out
    assert "enough?           cannot be told: it takes 9 documents or more" in outcome.out
    assert "dropped           id 3 ×1, id 6 ×1, id 9 ×1" in outcome.out
    assert "--tokenizer T shows dropped ids as text" in outcome.err
    assert "--held-out FILE" in outcome.err
    shown = vocabtrim(*choosing, "--tokenizer", words)
    assert 'dropped           "sat" ×1, "mat" ×1, "dog" ×1' in shown.out
    assert "shows dropped ids" not in shown.err


def test_held_out_text_is_measured(
    vocabtrim: Command, counts: Path, words: Path, tmp_path: Path
) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text(
        '{"text": "the cat slept", "domain": "animals"}\n{"text": "the mat", "domain": "things"}\n'
    )
    outcome = vocabtrim(
        *("select", counts, "--top-k", 3, "--exact-k", "-o", tmp_path / "v"),
        *("--tokenizer", words, "--held-out", held, "--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    assert "held out          60.0%" in outcome.out
    assert outcome.out.index("  things") < outcome.out.index("  animals")
    assert "ceiling of τ      γ 1: " in outcome.out
    assert "--held-out FILE" not in outcome.err
    found = json.loads((tmp_path / "r.json").read_text())["select"]["held_out"]
    assert found["coverage"]["share"] == pytest.approx(0.6)
    assert set(found["ceiling"]) == {str(gamma) for gamma in range(1, 9)}
    again = vocabtrim(
        *("select", counts, "--top-k", 3, "-o", tmp_path / "w", "--tokenizer", words),
        *("--held-out", tmp_path / "text.jsonl"),
    )
    assert again.code == 2
    assert "this was counted" in again.err


def test_somebodys_list(vocabtrim: Command, counts: Path, words: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("7\n1\n2\n7\n")
    listed = ("select", "--ids", tmp_path / "ids.txt", "-o", tmp_path / "v", "--force")
    outcome = vocabtrim(*listed, "--tokenizer", words, "--json", tmp_path / "r.json")
    assert outcome.code == 0, outcome.err
    assert read_vocab(tmp_path / "v")[0].ids.tolist() == [1, 2, 7]
    assert "3 of 10 ids" in outcome.out
    assert "ids 7 stand more than once" in outcome.err
    assert "the list lacks ids that end a generation" in outcome.err
    assert json.loads((tmp_path / "r.json").read_text())["select"]["held_out"] is None
    judged = vocabtrim(*listed, counts)
    assert judged.code == 0, judged.err
    assert "62.50% of the calibration tokens" in judged.out
    nobodys = vocabtrim(*listed)
    assert nobodys.code == 2
    assert "say whose ids these are" in nobodys.err


def test_what_was_exported_comes_back(
    vocabtrim: Command, counts: Path, words: Path, tmp_path: Path
) -> None:
    vocabtrim("select", counts, "--top-k", 3, "--exact-k", "-o", tmp_path / "v")
    for form in ("ids-json", "ids-txt", "ids-npy"):
        listed, back = tmp_path / form, tmp_path / f"{form}.safetensors"
        assert vocabtrim("export", tmp_path / "v", "--to", form, "-o", listed).code == 0
        outcome = vocabtrim("select", "--ids", listed, "--tokenizer", words, "-o", back)
        assert outcome.code == 0, outcome.err
        assert read_vocab(back)[0] == read_vocab(tmp_path / "v")[0]
