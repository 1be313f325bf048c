"""A drafter is opened for a model in memory, over its own ids or others, of one tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import IDS, V, trimmed_lm
from tests.tiny import tiny_eagle3, tiny_lm, tiny_target
from tests.tiny_models import write_tokenizer
from vocabtrim.core.errors import TokenizerMismatch
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.model import load_model
from vocabtrim.pipeline.open_drafter import open_drafter
from vocabtrim.tokens.tokenizer import Tokenizer


def test_both_families(tmp_path: Path) -> None:
    target = tiny_target(tmp_path / "t", vocab_size=V)
    model = load_model(target, "bfloat16")
    lm = open_drafter(trimmed_lm(tmp_path / "d"), model, target=target)
    assert lm.head.vocab.ids.tolist() == IDS.tolist()
    assert lm.feature_layers == ()
    kept = DraftVocab(IDS[:8], V)
    eagle = open_drafter(
        tiny_eagle3(tmp_path / "e", vocab_size=V), model, target=target, vocab=kept
    )
    assert eagle.head.vocab == kept
    assert eagle.head.weight.dtype == model.dtype
    assert eagle.feature_layers == (1, 2, 3)


def test_another_tokenizer(tmp_path: Path) -> None:
    target = write_tokenizer(tiny_target(tmp_path / "t"), chat=False)
    other = write_tokenizer(tiny_lm(tmp_path / "d"), chat=False)
    model, known = load_model(target), Tokenizer.open(target).fingerprint
    open_drafter(other, model, target=target, vocab=DraftVocab([5, 6], 96, known))
    with pytest.raises(TokenizerMismatch, match="the draft vocabulary was made with another"):
        open_drafter(other, model, target=target, vocab=DraftVocab([5, 6], 96, "sha256:0"))
    words = (other / "tokenizer.json").read_text().replace('"red"', '"rot"')
    (other / "tokenizer.json").write_text(words)
    with pytest.raises(TokenizerMismatch, match=f"the drafter {other} was made with another"):
        open_drafter(other, model, target=target)
