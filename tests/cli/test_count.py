"""`vocabtrim count` as a user meets it."""

from __future__ import annotations

import json
import shutil
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
        (["TEXT", "-t", "WORDS", "--domain", "code"], "--domain takes NAME=GLOB, found 'code'"),
        (["TEXT", "-t", "WORDS", "--merge"], "it takes no options of counting"),
        (["TEXT", "-t", "nowhere"], "'nowhere' is neither a directory"),
        (["BROKEN", "-t", "WORDS"], "line 2"),
        (["TEXT", "-t", "WORDS", "--role", "narrator"], "narrator"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    vocabtrim: Command, words: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "t.txt").write_text("the cat")
    (tmp_path / "broken.jsonl").write_text('{"text": "the"}\n{"text": "the\n')
    places = {"WORDS": words, "TEXT": tmp_path / "t.txt", "BROKEN": tmp_path / "broken.jsonl"}
    outcome = vocabtrim(
        "count", *(places.get(part, part) for part in arguments), "-o", tmp_path / "c"
    )
    assert outcome.code == 2
    assert says in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "c").exists()
