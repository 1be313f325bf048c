"""Tracing through the pipeline; the verb itself is tested in `tests/cli/test_trace.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_eagle3
from tests.tiny_models import write_target
from vocabtrim.core.errors import TokenizerMismatch
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import read_trace
from vocabtrim.pipeline.trace import trace
from vocabtrim.pipeline.traced_texts import Asking
from vocabtrim.tokens.tokenizer import Tokenizer


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_target(tmp_path / "target", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "drafter")
    (tmp_path / "prompts").write_text(json.dumps({"prompt": "red green", "domain": "a"}) + "\n")
    return tmp_path


def test_a_trace_names_what_made_it(place: Path) -> None:
    result = trace(
        Asking([place / "prompts"], place / "target", 5, "big"),
        place / "drafter",
        place / "out",
        gamma=2,
        width=4,
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
            Asking([place / "prompts"], place / "target", 5),
            place / "drafter",
            place / "out",
            gamma=2,
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
            Asking([place / "prompts"], place / "target", 5),
            place / "drafter",
            place / "out",
            gamma=2,
        )


def test_sampled_answers_are_refused(place: Path) -> None:
    asking = Asking([place / "prompts"], place / "target", 5, sampling={"temperature": 1.0})
    with pytest.raises(TraceError, match="use trace_sampled"):
        trace(asking, place / "drafter", place / "out", gamma=2)
