"""The recipe of the small target: its language, and that it trains, alike each time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recipes import train_mtp
from recipes.train_mtp import CHANCES, TOPICS, Language, main
from recipes.training.mtp import Shape
from vocabtrim.core.errors import OutputExists
from vocabtrim.tokens.tokenizer import Tokenizer

SMALL = Shape(vocab_size=64, hidden_size=32, heads=2, intermediate_size=48, positions=128)


def test_a_word_is_followed_by_its_successors_in_its_topic() -> None:
    language = Language(64, 0)
    rows = language.rows(200, 20) - 1
    topics = rows[:, 0] % TOPICS
    for place in range(1, 20):
        known = language.successors[topics, rows[:, place - 1]]
        assert (known == rows[:, place, None]).any(axis=1).all()
    likely = language.successors[topics[:, None], rows[:, :-1], 0] == rows[:, 1:]
    assert likely.mean() > CHANCES[0] - 0.05


def test_frequent_words_have_low_ids_and_none_is_another() -> None:
    language = Language(4096, 0)
    assert len(set(language.words)) == 4096
    assert (language.rows(300, 30) < 1024).mean() > 0.5
    assert np.array_equal(Language(64, 3).rows(4, 9), Language(64, 3).rows(4, 9))


def test_the_tokenizer_reads_what_the_language_says(tmp_path: Path) -> None:
    language = Language(64, 0)
    language.save_tokenizer(tmp_path)
    rows = language.rows(2, 10)
    language.save_prompts(tmp_path / "prompts.jsonl", rows)
    tokenizer = Tokenizer.open(tmp_path)
    prompts = [json.loads(line)["prompt"] for line in (tmp_path / "prompts.jsonl").open()]
    assert [tokenizer.encode(one).tolist() for one in prompts] == rows.tolist()


def test_a_run_is_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_mtp, "Shape", lambda: SMALL)
    monkeypatch.setattr(train_mtp, "PROMPTS", 2)
    for name in ("one", "two"):
        assert main(["-o", str(tmp_path / name), "--steps", "3"]) == 0
    assert "accepted at depth 1: " in capsys.readouterr().out
    for file in ("model.safetensors", "config.json", "tokenizer.json", "prompts.jsonl"):
        one, two = (tmp_path / name / file for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    with pytest.raises(OutputExists):
        main(["-o", str(tmp_path / "one"), "--steps", "3"])
