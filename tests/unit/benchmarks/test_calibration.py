"""The benchmark runs as a command, keeps held-out prompts out, and holds its promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import calibration
from benchmarks.calibration import OTHER, RAW, TARGET, Answers, Texts, kinds_of_text, main
from tests.outside_data import outside_files
from tests.real_tokenizers import real_directory
from tests.tiny_tokenizer import tokenizer, write_tokenizer
from vocabtrim.tokens.counting import BatchCounter

WORDS = ("the", "answer", "is", "a", "number", "of", "things", "that", "nobody", "knows")


def write_data(directory: Path, n_answers: int) -> Path:
    generator = np.random.default_rng(1)

    def text() -> str:
        return " ".join(generator.choice(WORDS, 12)) + f" {generator.integers(1000)}"

    for name in (TARGET, OTHER):
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"question {n}"},
                    {"role": "assistant", "content": text()},
                ]
            }
            for n in range(n_answers)
        ]
        (directory / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in RAW:
        rows = [{"text": text()} for _ in range(20)]
        (directory / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return directory


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["calibration.py", *map(str, arguments)])
    return main()


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path, 60)
    whose = write_tokenizer(tmp_path / "tokenizer")
    monkeypatch.setattr(calibration, "ROWS", (64, 128))
    monkeypatch.setattr(calibration, "SIZES", (10, 20, 40))
    options = ("--data", data, "--tokenizer", whose, "--splits", 3)
    assert called(monkeypatch, *options) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    found = json.loads(last)["calibration"]
    kinds = {kind["kind"]: kind for kind in found["kinds"]}
    assert list(kinds) == [
        "first-K",
        "raw",
        "other-model-generated",
        "target-generated",
        "joined (raw + target)",
        "target, raw as --base",
    ]
    assert kinds["target-generated"]["documents"] == 40
    assert kinds["joined (raw + target)"]["documents"] == 80
    for row in kinds["target-generated"]["rows"]:
        assert 0 < row["low"] <= row["coverage"] <= row["high"] <= 1
        assert 1 <= row["ceiling"] <= 5
    assert [row["answers"] for row in found["sizes"]] == [10, 20, 40]
    assert found["sizes"][-1]["doubled_truth"] is None
    for row in found["sizes"]:
        assert row["low"] <= row["estimate"] <= row["high"]
        assert 0 <= row["near"] <= 1
    assert [(row["answers"], row["K"]) for row in found["gains"]] == [
        (size, k) for size in (10, 20) for k in (64, 128)
    ]
    # the same command prints the same line
    assert called(monkeypatch, *options) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_held_out_prompts_are_in_no_calibration_text() -> None:
    ids = [np.array([number]) for number in range(6)]
    texts = {
        TARGET: Texts(ids, list("abcdef")),
        # in another order, and with an answer more
        OTHER: Texts([*ids, np.array([9])], list("fedcbag")),
        **{name: Texts([np.array([7])], []) for name in RAW},
    }
    kinds = {kind.name: kind for kind in kinds_of_text(texts, 2)}
    assert [int(one[0]) for one in kinds["target-generated"].documents] == [0, 1, 2, 3]
    assert [int(one[0]) for one in kinds["other-model-generated"].documents] == [2, 3, 4, 5, 9]


def test_any_choice_of_answers_is_counted_as_the_counter_does(tmp_path: Path) -> None:
    opened = tokenizer(tmp_path / "tokenizer")
    documents = [opened.encode(text) for text in ("then the ants", "a a a a", "the", "an ant")]
    chosen = np.array([3, 1, 0])
    for cap in (None, 2):
        counted = BatchCounter(opened, cap_per_document=cap).count(
            [documents[one] for one in chosen]
        )
        found = Answers.of(documents, opened.vocab_size, cap).counts(chosen)
        assert found.n_documents == 3
        np.testing.assert_array_equal(found.counts, counted.counts.counts)
        np.testing.assert_array_equal(found.documents, counted.counts.documents)


def test_missing_data_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whose = write_tokenizer(tmp_path / "tokenizer")
    assert called(monkeypatch, "--data", tmp_path, "--tokenizer", whose) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_promises_on_real_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (answers,) = outside_files(f"{TARGET}.jsonl")
    whose = real_directory("llama3_1")
    options = ("--data", answers.parent, "--tokenizer", whose, "--splits", 20)
    assert called(monkeypatch, *options) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["calibration"]
    sizes: dict[int, dict[str, Any]] = {row["answers"]: row for row in found["sizes"]}
    for size in (200, 400):
        row = sizes[size]
        # in file order, and with loops cut on every random split
        assert abs(row["estimate"] - row["truth"]) < 0.03
        assert row["inside"]
        assert abs(row["capped_estimate"] - row["capped_truth"]) < 0.03
        assert row["capped_near"] == 1.0
        assert row["capped_inside_interval"] > 0.6
    for size in (100, 200):
        row = sizes[size]
        assert abs(row["capped_doubled_estimate"] - row["capped_doubled_truth"]) < 0.03
    for row in found["gains"]:
        # what twice the data brings is foreseen from above, and at high K within a point
        assert row["gain"] < row["gain_at_most"]
    coverage = {
        kind["kind"]: {row["K"]: row["coverage"] for row in kind["rows"]} for kind in found["kinds"]
    }
    ordered = [
        coverage[kind][32_768] for kind in ("raw", "target-generated", "target, raw as --base")
    ]
    assert ordered == pytest.approx([0.910, 0.958, 0.959], abs=0.006)
    expected = {
        row["K"]: row["expected_coverage"]
        for kind in found["kinds"]
        if kind["kind"] == "target-generated"
        for row in kind["rows"]
    }
    for k, share in expected.items():
        assert share == pytest.approx(coverage["target-generated"][k], abs=0.03)
