from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_eagle3
from tests.tiny_models import V, write_target
from vocabtrim.core.errors import DecodeError, TokenizerMismatch
from vocabtrim.pipeline.pair import open_pair


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_target(tmp_path / "target", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "drafter")
    return tmp_path


def test_a_pair_knows_its_costs(place: Path) -> None:
    pair = open_pair(place / "target", place / "drafter")
    assert pair.drafter.head.vocab.size == pair.cost.head_rows == V
    assert pair.target.feature_layers == pair.drafter.feature_layers
    assert pair.cost.shared  # the head is the target's
    assert pair.cost.target.params == sum(one.numel() for one in pair.target.model.parameters())
    half = open_pair(place / "target", place / "drafter", "bfloat16")
    assert half.cost.target.step_bytes * 2 == pair.cost.target.step_bytes
    assert half.cost.target.params == pair.cost.target.params


def test_a_reduced_head_is_its_own(place: Path) -> None:
    tiny_eagle3(place / "reduced", ids=range(0, V, 2))
    cost = open_pair(place / "target", place / "reduced").cost
    assert (cost.head_rows, cost.shared) == (V // 2, False)


def test_another_tokenizer_is_refused(place: Path) -> None:
    tokenizer = json.loads((place / "target/tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.get)[-2:]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (place / "drafter/tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(TokenizerMismatch, match="another tokenizer than the target's"):
        open_pair(place / "target", place / "drafter")


def test_a_target_without_a_tokenizer_is_refused(place: Path) -> None:
    (place / "target/tokenizer.json").unlink()
    with pytest.raises(DecodeError, match="has no tokenizer"):
        open_pair(place / "target", place / "drafter")
