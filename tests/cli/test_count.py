"""`vocabtrim count` as a user meets it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from vocabtrim.core.counts_file import read_counts


def test_counts_are_written_and_described(
    vocabtrim: Command, words: Path, counts: Path, tmp_path: Path
) -> None:
    found, manifest = read_counts(counts)
    assert found.counts.tolist() == [0, 3, 2, 1, 0, 0, 1, 0, 0, 1]
    assert found.documents.tolist() == [0, 2, 2, 1, 0, 0, 1, 0, 0, 1]
    assert list(manifest.inputs) == [str(tmp_path / "text.jsonl")]
    outcome = vocabtrim("count", tmp_path / "text.jsonl", "-t", words, "-o", counts, "--force")
    assert "8 tokens" in outcome.out


def test_the_tokenizer_may_be_the_file_itself(
    vocabtrim: Command, words: Path, counts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "again"
    file = words / "tokenizer.json"
    assert vocabtrim("count", tmp_path / "text.jsonl", "-t", file, "-o", output).code == 0
    assert read_counts(output)[0].counts.tolist() == read_counts(counts)[0].counts.tolist()


def test_domains_and_json(vocabtrim: Command, words: Path, tmp_path: Path) -> None:
    (tmp_path / "code.txt").write_text("the cat")
    (tmp_path / "chat.txt").write_text("a dog and a cat")
    outcome = vocabtrim(
        *("count", tmp_path / "code.txt", tmp_path / "chat.txt", "-t", words),
        *("-o", tmp_path / "c", "--domain", "code=*code*", "--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    found, _ = read_counts(tmp_path / "c")
    assert found.n_tokens == 7
    assert found.domains["code"].n_tokens == 2
    assert json.loads((tmp_path / "r.json").read_text())["count"]["tokens"] == 7


def test_merge_adds_count_files(vocabtrim: Command, counts: Path, tmp_path: Path) -> None:
    shutil.copy(counts, tmp_path / "other")
    outcome = vocabtrim("count", "--merge", counts, tmp_path / "other", "-o", tmp_path / "sum")
    assert outcome.code == 0, outcome.err
    assert "text.jsonl" in outcome.err  # both counted that file, which may be a mistake
    assert read_counts(tmp_path / "sum")[0].n_tokens == 16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.jsonl", "-t", "WORDS"], "missing.jsonl"),
        (["TEXT"], "say whose ids to count: --tokenizer T"),
        (["TEXT", "-t", "WORDS", "--domain", "code="], "takes NAME=GLOB or NAME, found 'code='"),
        (["TEXT", "-t", "WORDS", "--domain", "=x"], "takes NAME=GLOB or NAME, found '=x'"),
        (["TEXT", "-t", "WORDS", "--workers", "2", "--ray", "auto"], "--ray uses none of them"),
        (["BROKEN", "-t", "WORDS", "--strict"], "line 2"),
        (["TEXT", "--cap-per-document", "3", "--merge"], "it takes no options of counting"),
        (["TEXT", "--merge"], "say whose ids they are with --tokenizer T"),
        (["TEXT", "-t", "WORDS", "--merge"], "a .pt file or JSON, and this is neither"),
        (["TEXT", "-t", "nowhere"], "'nowhere' is neither a directory"),
        (["UNUSABLE", "-t", "WORDS"], "line 1: nothing in this file can be used"),
        (["TEXT", "-t", "WORDS", "--role", "narrator"], "narrator"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    vocabtrim: Command, words: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "t.txt").write_text("the cat")
    (tmp_path / "broken.jsonl").write_text('{"text": "the"}\n{"text": "the\n')
    (tmp_path / "unusable.jsonl").write_text('{"text": "the\n')
    places = {"WORDS": words, "TEXT": tmp_path / "t.txt", "BROKEN": tmp_path / "broken.jsonl"}
    places["UNUSABLE"] = tmp_path / "unusable.jsonl"
    outcome = vocabtrim(
        "count", *(places.get(part, part) for part in arguments), "-o", tmp_path / "c"
    )
    assert outcome.code == 2
    assert says in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "c").exists()


def test_what_is_left_out_is_said_with_its_place(
    vocabtrim: Command, words: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jsonl").write_text('{"text": "the"}\n{"text": "the\n')
    outcome = vocabtrim("count", tmp_path / "broken.jsonl", "-t", words, "-o", tmp_path / "c")
    assert outcome.code == 0
    assert "warning: 1 record left out" in outcome.err
    assert "broken.jsonl, line 2)" in outcome.err


def test_a_domain_that_records_name_and_a_field(
    vocabtrim: Command, words: Path, tmp_path: Path
) -> None:
    records = [{"mine": "the cat", "text": "a", "domain": "x"}, {"mine": "sat"}]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    outcome = vocabtrim(
        *("count", tmp_path / "r.jsonl", "-t", words, "-o", tmp_path / "c"),
        *("--domain", "x", "--field", "mine"),
    )
    assert outcome.code == 0, outcome.err
    found, _ = read_counts(tmp_path / "c")
    assert (found.n_tokens, found.domains["x"].n_tokens) == (3, 2)


def test_standard_input_is_counted_and_hashed(words: Path, tmp_path: Path) -> None:
    text = b'{"text": "the cat"}\n{"text": "sat"}\n'
    command = [sys.executable, "-m", "vocabtrim", "count", "-", "-t", words, "-o", tmp_path / "c"]
    done = subprocess.run(command, input=text, capture_output=True, check=True)
    assert "standard input can be read only once" in done.stderr.decode()
    found, manifest = read_counts(tmp_path / "c")
    assert found.n_tokens == 3
    assert manifest.inputs == {"-": "sha256:" + sha256(text).hexdigest()}


def test_whether_it_is_enough_is_said(vocabtrim: Command, words: Path, tmp_path: Path) -> None:
    text = ["the cat sat", "the dog sat", *["the cat"] * 8]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in text))
    outcome = vocabtrim(
        *("count", tmp_path / "t.jsonl", "-t", words, "-o", tmp_path / "c"),
        *("--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    # of 22 tokens, the dog alone is in one document only
    assert "unseen     4.5% of a new document's tokens have an id that the data" in outcome.out
    assert "never seen 6 of 10 ids" in outcome.out
    assert "enough?    " in outcome.out
    found = json.loads((tmp_path / "r.json").read_text())["count"]["enough"]
    assert found["unseen"]["share"] == pytest.approx(1 / 22)
    assert found["verdict"] in outcome.out
    merged = vocabtrim("count", "--merge", tmp_path / "c", "-o", tmp_path / "m")
    assert found["verdict"] in merged.out


def test_frequencies_of_another_tool_become_counts(
    vocabtrim: Command, words: Path, counts: Path, tmp_path: Path
) -> None:
    freq = tmp_path / "freq.json"
    freq.write_text('{"1": 5, "8": 2}')
    outcome = vocabtrim("count", "--merge", freq, counts, "-t", words, "-o", tmp_path / "sum")
    assert outcome.code == 0, outcome.err
    assert "freq.json, frequencies: in how many documents an id occurs is not known" in outcome.err
    found, _ = read_counts(tmp_path / "sum")
    assert found.counts.tolist() == [0, 8, 2, 1, 0, 0, 1, 0, 2, 1]
    assert found.n_documents == 3
    alone = vocabtrim("count", "--merge", freq, "-t", words, "-o", tmp_path / "alone")
    assert "cannot be told: the data is one document" in alone.out
    chosen = vocabtrim(
        *("select", tmp_path / "alone", "--top-k", 3, "--exact-k", "-o", tmp_path / "v")
    )
    assert "100.00% of the calibration tokens themselves" in chosen.out
