"""Tracing through the pipeline; the verb itself is tested in `tests/cli/test_trace.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_eagle3
from tests.tiny_models import write_target
from vocabtrim.core.errors import CalibrationError, TokenizerMismatch
from vocabtrim.core.trace import Trace, TraceError
from vocabtrim.core.trace_file import read_trace
from vocabtrim.pipeline.trace import trace
from vocabtrim.tokens.tokenizer import Tokenizer


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_target(tmp_path / "target", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "drafter")
    (tmp_path / "prompts").write_text(json.dumps({"prompt": "red green", "domain": "a"}) + "\n")
    return tmp_path


def test_a_trace_names_what_made_it(place: Path) -> None:
    result = trace(
        [place / "prompts"],
        place / "target",
        place / "drafter",
        place / "out",
        gamma=2,
        max_new_tokens=5,
        width=4,
        target_name="big",
    )
    found, manifest = read_trace(place / "out")
    assert manifest.facts["target"] == "big"
    assert manifest.facts["drafter"] == "drafter"
    assert manifest.options == {"gamma": 2, "max_new_tokens": 5, "width": 4, "raw": False}
    assert found.tokenizer == Tokenizer.open(place / "target").fingerprint
    assert found.texts[0].domain == "a"
    assert found.texts[0].budget == 5
    assert (result.texts, result.positions) == (1, found.texts[0].starts)
    assert result.lines()[0].startswith("trace      1 answers")


def test_too_many_candidates_are_refused(place: Path) -> None:
    with pytest.raises(TraceError, match="candidates, found 2 and 5000"):
        trace(
            [place / "prompts"],
            place / "target",
            place / "drafter",
            place / "out",
            gamma=2,
            max_new_tokens=5,
            width=5000,
        )
    assert not (place / "out").exists()


def test_a_drafter_of_another_tokenizer_is_refused(place: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((place / "target/tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.get)[-2:]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (place / "drafter/tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(TokenizerMismatch, match="another tokenizer than the target's"):
        trace(
            [place / "prompts"],
            place / "target",
            place / "drafter",
            place / "out",
            gamma=2,
            max_new_tokens=5,
        )


def traced(place: Path, **given: Any) -> Trace:
    options = {"gamma": 2, "max_new_tokens": 5, "width": 4} | given
    names = (place / "target", place / "drafter", place / "out")
    trace([place / "prompts"], *names, **options)
    return read_trace(place / "out")[0]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_separators_within_a_prompt_are_text(place: Path, separator: str) -> None:
    asked = json.dumps({"prompt": f"red{separator}green"}, ensure_ascii=False)
    (place / "prompts").write_text(asked + "\n", encoding="utf-8")
    assert len(traced(place).texts) == 1


def test_answers_to_another_prompt_of_that_name_are_not_taken(
    place: Path,
) -> None:
    (place / "prompts").write_text(json.dumps({"id": "1", "prompt": "red green"}) + "\n")
    with pytest.raises(TraceError):
        traced(place, width=5000)
    assert list(place.glob("out.texts-*.jsonl"))  # the answers were there already
    (place / "prompts").write_text(json.dumps({"id": "1", "prompt": "blue"}) + "\n")
    (place / "out.part" / "request.json").unlink(missing_ok=True)
    again = traced(place)
    alone = place / "alone"
    alone.mkdir()
    for name in ("target", "drafter", "prompts"):
        (alone / name).symlink_to(place / name)
    fresh = traced(alone)
    assert again.texts[0].tokens.tolist() == fresh.texts[0].tokens.tolist()
    assert again.texts[0].prompt_ids.tolist() == fresh.texts[0].prompt_ids.tolist()


def test_an_answer_that_is_none_is_named(place: Path) -> None:
    with pytest.raises(TraceError):
        traced(place, width=5000)
    (answers,) = place.glob("out.texts-*.jsonl")
    answers.write_bytes(answers.read_bytes()[:30] + b"\n")
    with pytest.raises(CalibrationError, match="line 1: this is no answer to these prompts"):
        traced(place)


def test_the_end_of_the_context_ends_the_budget(place: Path) -> None:
    config = json.loads((place / "target/config.json").read_text())
    long = json.dumps({"prompt": "red green " * 20})
    (place / "prompts").write_text(long + "\n")
    size = traced(place).texts[0].prompt_ids.size
    (place / "out").unlink()
    (place / "target/config.json").write_text(
        json.dumps(config | {"max_position_embeddings": int(size) + 3})
    )
    (text,) = traced(place).texts
    assert text.budget == 3
