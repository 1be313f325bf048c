"""What is looked at before counting; each refusal is in `test_fit.py`, as `fit` gives it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fitting import V, write_pair
from vocabtrim.core.errors import CheckpointError, PluginError
from vocabtrim.pipeline.fitting.ahead import look_ahead
from vocabtrim.pipeline.fitting.request import Fit
from vocabtrim.tokens.tokenizer import Tokenizer


@pytest.fixture
def asked(tmp_path: Path) -> Fit:
    target, drafter = write_pair(tmp_path)
    return Fit(str(drafter), str(target), ["no such file"], "vllm", tmp_path / "out")


def test_it_gives_the_drafter_and_leaves_nothing(asked: Fit) -> None:
    source = look_ahead(asked, Tokenizer.open(Path(asked.target)))
    assert (source.family, source.vocab.size) == ("eagle3", V)
    assert not asked.output.exists()


def test_traces_are_not_looked_at_where_nobody_reads_them(asked: Fit) -> None:
    tokenizer = Tokenizer.open(Path(asked.target))
    look_ahead(replace(asked, traces=[Path("nowhere")], top_k=64), tokenizer)


def test_a_family_that_it_is_not_of(asked: Fit) -> None:
    tokenizer = Tokenizer.open(Path(asked.target))
    with pytest.raises(CheckpointError, match="no drafter of the family mtp"):
        look_ahead(replace(asked, family="mtp"), tokenizer)
    with pytest.raises(PluginError, match="medusa"):
        look_ahead(replace(asked, family="medusa"), tokenizer)
