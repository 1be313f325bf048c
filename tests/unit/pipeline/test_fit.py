"""`fit` makes what its five verbs make, and refuses early what they refuse late."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fitting import V, write_pair, write_traffic
from tests.tiny import edit, raw_tensors, tiny_lm
from tests.tiny_tokenizer import write_tokenizer
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import (
    CalibrationError,
    CheckpointError,
    EnvironmentFailure,
    OutputExists,
    PluginError,
    TokenizerMismatch,
)
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.engines.base import Container, engine_named
from vocabtrim.pipeline import fit as module
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.fit import Fit, fit
from vocabtrim.pipeline.select import select
from vocabtrim.pipeline.trim import trim
from vocabtrim.rules.top_k import TopK


@pytest.fixture
def asked(tmp_path: Path) -> Fit:
    target, drafter = write_pair(tmp_path)
    traffic = write_traffic(tmp_path / "log.jsonl", documents=200)
    return Fit(str(drafter), str(target), [str(traffic)], "vllm", tmp_path / "out", gamma=2)


def test_it_is_the_five_verbs(asked: Fit, tmp_path: Path) -> None:
    result = fit(asked)
    K = result.choice.K
    assert K < V
    assert K % 64 == 0
    count(asked.traffic, Path(asked.target), tmp_path / "c")
    assert read_counts(asked.output / "counts.safetensors")[0] == read_counts(tmp_path / "c")[0]
    select([tmp_path / "c"], TopK(K), tmp_path / "v")
    vocab, _ = read_vocab(tmp_path / "v")
    assert read_vocab(asked.output / "vocab.safetensors")[0] == vocab
    trim(Path(asked.drafter), vocab, tmp_path / "trimmed", target=Path(asked.target))
    assert raw_tensors(asked.output / "trimmed") == raw_tensors(tmp_path / "trimmed")
    reads = engine_named("vllm").read_back(asked.output / "for-vllm", Container.FLAT)
    assert reads.ids is not None
    assert np.array_equal(reads.ids, vocab.ids)
    assert result.made is not None
    assert result.made.exported is not None
    assert result.made.exported.command is not None
    assert result.made.exported.command in "\n".join(result.lines())
    assert f'"num_speculative_tokens": {asked.gamma}' in result.made.exported.command
    assert json.loads((asked.output / "fit.json").read_text()) == json.loads(
        json.dumps(result.to_json())
    )


def test_it_says_all_that_a_newcomer_asks(asked: Fit) -> None:
    text = "\n".join(fit(asked).lines())
    for part in ("where the bytes are", "LM head", "enough?", "← chosen", "dropped", "memory"):
        assert part in text, part


def test_k_can_be_said(asked: Fit) -> None:
    few = write_traffic(asked.output.parent / "few.jsonl", documents=3)
    little = replace(asked, traffic=[str(few)])
    with pytest.raises(CalibrationError, match="--top-k"):
        fit(little)
    result = fit(replace(little, top_k=100))
    assert result.choice.K == 128
    assert result.made is not None


def test_nothing_is_made_where_it_does_not_pay(asked: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    from vocabtrim.pipeline.fitting import choice

    monkeypatch.setattr(choice, "WORTH_TRIMMING", 0.0)
    result = fit(asked)
    assert result.made is None
    assert "do not trim" in "\n".join(result.lines())
    assert not (asked.output / "trimmed").exists()
    assert (asked.output / "fit.json").exists()


def test_a_reduced_head_is_reduced_further(asked: Fit, tmp_path: Path) -> None:
    first = fit(replace(asked, top_k=256))
    again = fit(
        replace(asked, drafter=str(asked.output / "trimmed"), top_k=128, output=tmp_path / "2")
    )
    assert (first.rows, again.rows, again.choice.K) == (V, 256, 128)
    inner, _ = read_vocab(tmp_path / "2" / "vocab.safetensors")
    outer, _ = read_vocab(asked.output / "vocab.safetensors")
    assert set(inner.ids) < set(outer.ids)


class TestRefusedBeforeCounting:
    """Whatever would be refused at the end is refused before the traffic is read."""

    @pytest.fixture(autouse=True)
    def _no_counting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def counting(*_given: object, **_more: object) -> None:
            raise AssertionError("the traffic was read")

        monkeypatch.setattr(module, "count", counting)

    def test_an_engine_that_there_is_not(self, asked: Fit) -> None:
        with pytest.raises(PluginError, match="no engine is called 'triton'"):
            fit(replace(asked, engine="triton"))

    def test_an_engine_that_takes_no_such_drafter(self, asked: Fit) -> None:
        lm = tiny_lm(asked.output.parent / "lm", vocab_size=V, hidden=32)
        with pytest.raises(CheckpointError, match="sglang takes no drafters of the family ind"):
            fit(replace(asked, drafter=str(lm), engine="sglang"))

    def test_a_converter_that_is_not_there(
        self, asked: Fit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("VOCABTRIM_LLAMA_CONVERTER", raising=False)
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(EnvironmentFailure, match="--converter"):
            fit(replace(asked, engine="llama.cpp"))

    def test_a_drafter_of_another_tokenizer(self, asked: Fit) -> None:
        write_tokenizer(Path(asked.drafter), added=("<|im_end|>",))
        with pytest.raises(TokenizerMismatch, match="another tokenizer than the target"):
            fit(asked)

    def test_what_is_in_the_way(self, asked: Fit) -> None:
        asked.output.mkdir()
        (asked.output / "thesis.txt").touch()
        for force in (False, True):
            with pytest.raises(OutputExists):
                fit(asked, force=force)


def test_a_fit_that_was_interrupted_goes_on(asked: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_given: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "trim", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(asked)
    assert fit(replace(asked, gamma=5)).made is not None
    with pytest.raises(OutputExists):
        fit(asked)
    assert fit(asked, force=True).made is not None


def test_a_fault_is_not_exported(asked: Fit) -> None:
    damaged = edit(Path(asked.drafter), drop=["fc.weight"])
    with pytest.raises(CheckpointError):
        fit(replace(asked, drafter=str(damaged)))
    assert not (asked.output / "for-vllm").exists()
