"""The counting benchmark runs as a command and notices counts that are wrong."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from benchmarks import counting
from benchmarks.counting import Command, Corpus, compared, in_batches, one_by_one, run_limit
from tests.tiny_tokenizer import backend, write_tokenizer

TEXTS = ["the ants", "", "漢字\u2028 and\nthe 🙂", "<|im_end|> ants"] * 40


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    path = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Corpus.of(path)


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["counting.py", *map(str, arguments)])
    return counting.main()


def test_both_usual_ways_count_every_id(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BATCH", 7)
    expected = Counter(one for text in TEXTS for one in backend().encode(text).ids)
    assert list(corpus.texts()) == TEXTS
    assert one_by_one(backend(), corpus) == expected
    assert in_batches(backend(), corpus) == expected


def test_the_beginning_of_a_corpus_is_whole_lines(corpus: Corpus, tmp_path: Path) -> None:
    lines = corpus.path.read_bytes().splitlines(keepends=True)
    part = corpus.beginning((len(lines[0]) + 1) / 1e6, tmp_path)
    assert part.path.read_bytes() == lines[0] + lines[1]
    assert corpus.beginning(1, tmp_path) == corpus


def test_the_command(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whose = write_tokenizer(tmp_path / "tokenizer")
    options = ("--corpus", corpus.path, "--tokenizer", whose, "--repeat", 1)
    assert called(monkeypatch, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    (found,) = json.loads(lines[-1])["counting"]
    assert found["different_ids"] == 0
    assert found["tokens"] == sum(len(backend().encode(text).ids) for text in TEXTS)
    for one in ("a", "b"):
        assert found[f"command_over_{one}"] == pytest.approx(found["command"] / found[one])
    assert any("vocabtrim count" in line for line in lines)
    assert any("equal" in line for line in lines)


def test_verify_compares_and_times_nothing(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whose = write_tokenizer(tmp_path / "tokenizer")

    def forgetful(tokenizer: Tokenizer, corpus: Corpus) -> Counter[int]:
        return one_by_one(tokenizer, corpus) - Counter(backend().encode("the").ids)

    options = ("--data", corpus.path.parent, "--tokenizer", whose, "--verify")
    assert called(monkeypatch, *options) == 0
    monkeypatch.setattr(counting, "in_batches", forgetful)
    assert called(monkeypatch, *options) == 1
    (found,) = json.loads(capsys.readouterr().out.splitlines()[-1])["counting"]
    assert found["different_ids"] == 1
    assert "command" not in found


def test_every_difference_is_counted() -> None:
    import numpy as np

    facts: dict[str, Any] = {}
    command = Command(1.0, 1.0, np.array([3, 0, 2, 0], dtype=np.int64), facts)
    assert compared(Counter({0: 3, 2: 2}), command) == 0
    assert compared(Counter({0: 3, 1: 1, 2: 1}), command) == 2


@pytest.mark.parametrize("way", counting.WAYS)
def test_the_limit_is_a_process_of_its_own(corpus: Corpus, tmp_path: Path, way: str) -> None:
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    whose = write_tokenizer(tmp_path / "tokenizer")
    speed = run_limit(corpus, whose, way)
    assert speed is not None
    assert speed > 0
    (whose / "tokenizer.json").write_text("{}")
    assert run_limit(corpus, whose, way) is None


def test_a_missing_corpus_or_tokenizer_is_named(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        called(monkeypatch, "--corpus", tmp_path / "none.jsonl")
    assert "benchmarks/debian_corpus.py makes one" in capsys.readouterr().err
    assert called(monkeypatch, "--corpus", corpus.path, "--tokenizer", tmp_path / "none") == 2
    assert "none" in capsys.readouterr().err
