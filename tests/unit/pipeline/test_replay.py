from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.traces import TOKENIZER, V, World
from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import TokenizerMismatch, VocabError
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import write_trace
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.pipeline.replay import replay_trace

WORLD = World(5, texts=14)
FACTS = {"target": "big", "drafter": "small"}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.safetensors"
    write_trace(path, WORLD.trace(), inputs={}, options={}, facts=FACTS)
    return path


def counts(path: Path, *, tokenizer: str = TOKENIZER, eos: tuple[int, ...] = (7,)) -> Path:
    numbers = np.arange(V)[::-1] ** 2
    write_counts(
        path,
        TokenCounts(numbers, np.minimum(numbers, 3), 3, tokenizer, SpecialIds(eos=eos)),
        inputs={},
        options={},
        facts={},
    )
    return path


def test_counts_give_the_order(trace: Path, tmp_path: Path) -> None:
    found = replay_trace(
        trace, gammas=[1, 3], counts=counts(tmp_path / "c"), sizes=[4, 9], exact=True
    )
    assert (found.target, found.drafter, found.prompts, found.V) == ("big", "small", 14, V)
    assert [(run.K, run.gamma) for run in found.runs] == [(4, 1), (4, 3), (9, 1), (9, 3)]
    for run in found.runs:
        # the EOS first, then the lowest ids, which are the most frequent
        ids = np.sort([7, *[one for one in range(V) if one != 7][: run.K - 1]])
        decoded = sum(WORLD.decode(ids, run.gamma)[1:], WORLD.decode(ids, run.gamma)[0])
        assert run.block_efficiency == decoded.block_efficiency
        assert run.accepted_histogram == tuple(decoded.accepted)
        assert run.interval is not None
        assert run.interval[0] <= (run.block_efficiency or 0) <= run.interval[1]
        assert set(run.domains) == {"even", "odd"}
        assert min(run.domains.values()) <= run.block_efficiency <= max(run.domains.values())  # type: ignore[operator, type-var]


def test_losses_by_domain_are_told_worst_first(trace: Path, tmp_path: Path) -> None:
    found = replay_trace(
        trace, gammas=[1, 3], counts=counts(tmp_path / "c"), sizes=[3, V], exact=True
    )
    for run in found.runs:
        inside = np.sort([7, *[one for one in range(V) if one != 7][: run.K - 1]])
        for domain, loss in run.domain_loss.items():
            held = [text.domain == domain for text in WORLD.texts]
            parts = [
                [one for one, mine in zip(WORLD.decode(ids, run.gamma), held, strict=True) if mine]
                for ids in (inside, np.arange(V))
            ]
            here, full = (sum(part[1:], part[0]).block_efficiency for part in parts)
            assert here is not None
            assert full is not None
            assert loss == pytest.approx(1 - here / full)
        losses = [one or 0.0 for one in run.domain_loss.values()]
        assert losses == sorted(losses, reverse=True)
    assert found.runs[-1].loss == 0
    lines = found.lines()
    assert "against all rows at γ = 3, worst domain first:" in lines
    worst = next(iter(found.runs[1].domain_loss))
    assert lines[-2].startswith(f"c top 3     {worst} -")
    assert lines[-1].endswith("+0.0%, odd +0.0%") or lines[-1].endswith("+0.0%, even +0.0%")


def test_vocabularies_are_files(trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    vocab = DraftVocab.from_ids([0, 1, 2, 5], V, TOKENIZER)
    write_vocab(path, vocab, inputs={}, options={}, facts={})
    (run,) = replay_trace(trace, gammas=[2], vocabs=[path]).runs
    decoded = WORLD.decode(vocab.ids, 2)
    assert run.block_efficiency == sum(decoded[1:], decoded[0]).block_efficiency
    assert (run.vocab, run.K) == (str(path), 4)


def test_the_table_has_a_row_a_vocabulary(trace: Path, tmp_path: Path) -> None:
    found = replay_trace(trace, gammas=[1, 2], counts=counts(tmp_path / "c"), sizes=[5])
    title, head, row = found.lines()[:3]
    assert title == "block efficiency of small for big, 14 prompts"
    assert head.split() == ["vocabulary", "K", "γ", "=", "1", "γ", "=", "2"]
    # K is rounded up to 64, and no more than V
    assert row.startswith("c top 13")
    assert f"{found.runs[0].block_efficiency:.3f} ±" in row


def test_what_cannot_be_replayed_is_said(trace: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="say what to replay"):
        replay_trace(trace, gammas=[1])
    with pytest.raises(TraceError, match="give --counts"):
        replay_trace(trace, gammas=[1], sizes=[3])
    with pytest.raises(VocabError, match="no room for the 2 ids"):
        replay_trace(
            trace,
            gammas=[1],
            counts=counts(tmp_path / "two", eos=(1, 2)),
            sizes=[1],
            exact=True,
        )
    with pytest.raises(TokenizerMismatch):
        other = counts(tmp_path / "other", tokenizer="sha256:" + "1" * 64)
        replay_trace(trace, gammas=[1], counts=other, sizes=[3])
