"""`fit` makes what its five verbs make, and refuses early what they refuse late."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fitting import V, write_pair, write_traffic
from tests.tiny import edit, raw_tensors, tiny_eagle3, tiny_lm
from tests.tiny_tokenizer import write_tokenizer
from tests.traces import World
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import (
    ArtifactError,
    CalibrationError,
    CheckpointError,
    EnvironmentFailure,
    OutputExists,
    PluginError,
    TokenizerMismatch,
    VocabError,
)
from vocabtrim.core.latency import Latency, LatencyError
from vocabtrim.core.latency_file import Latencies
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import write_trace
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.engines.base import Container, engine_named
from vocabtrim.families import mtp
from vocabtrim.pipeline import fit as module
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.fit import Fit, fit
from vocabtrim.pipeline.fitting import counted as counting
from vocabtrim.pipeline.fitting.choice import SizeChoice
from vocabtrim.pipeline.select import KeepIds, select
from vocabtrim.pipeline.trim import trim
from vocabtrim.rules.top_k import TopK
from vocabtrim.tokens.tokenizer import Tokenizer


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
        def reading(*_given: object, **_more: object) -> None:
            raise AssertionError("the traffic was read")

        monkeypatch.setattr(module, "counted", reading)

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

    def test_a_converter_that_is_named_and_not_there(self, asked: Fit) -> None:
        named = replace(asked, engine="llama.cpp", converter="/nowhere/convert_hf_to_gguf.py")
        with pytest.raises(
            EnvironmentFailure, match=r"/nowhere/convert_hf_to_gguf\.py does not ex"
        ):
            fit(named)
        with pytest.raises(EnvironmentFailure, match="no-such-program cannot be run"):
            fit(replace(named, converter="no-such-program x"))

    def test_a_class_that_the_plug_in_does_not_have(self, asked: Fit) -> None:
        lm = tiny_lm(asked.output.parent / "lm", vocab_size=V, hidden=32)
        edit(lm, config={"architectures": ["PhiForCausalLM"], "model_type": "phi"})
        with pytest.raises(CheckpointError, match="no reduced head for TrimmedPhiForCausalLM"):
            fit(replace(asked, drafter=str(lm)))

    def test_an_output_inside_the_drafter_or_around_it(self, asked: Fit) -> None:
        for output in (Path(asked.drafter) / "out", Path(asked.drafter).parent):
            with pytest.raises(OutputExists, match="neither inside the drafter"):
                fit(replace(asked, output=output), force=True)

    def test_standard_input_that_would_be_read_twice(self, asked: Fit) -> None:
        with pytest.raises(CalibrationError, match=r"read only once.*\(--top-k\)"):
            fit(replace(asked, traffic=["-"]))
        with pytest.raises(AssertionError, match="the traffic was read"):
            fit(replace(asked, traffic=["-"], top_k=64))

    def test_traces_of_something_else(self, asked: Fit, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="nowhere: no such file"):
            fit(replace(asked, traces=[tmp_path / "nowhere"]))
        with pytest.raises(ArtifactError, match="not a readable safetensors file"):
            fit(replace(asked, traces=[Path(asked.traffic[0])]))
        foreign = trace_of(asked, tmp_path / "foreign", tokenizer="sha256:" + "7" * 64)
        with pytest.raises(TokenizerMismatch, match="of another tokenizer than the target's"):
            fit(replace(asked, traces=[foreign]))
        good = trace_of(asked, tmp_path / "good")
        with pytest.raises(TraceError, match="nothing to take time from"):
            fit(replace(asked, traces=[good]))

    def test_latencies_of_something_else(self, asked: Fit, tmp_path: Path) -> None:
        with pytest.raises(LatencyError, match="no JSON can be read there"):
            fit(replace(asked, latency=tmp_path / "nowhere"))
        with pytest.raises(LatencyError, match="neither what `bench --micro`"):
            fit(replace(asked, latency=Path(asked.target) / "config.json"))
        foreign = latency_of(tmp_path / "foreign", {64: 1.0, 5000: 2.0}, V=5000)
        with pytest.raises(TraceError, match="latencies are of a target with 5000 ids"):
            fit(replace(asked, latency=foreign))


def interrupted(*_given: object, **_more: object) -> None:
    raise KeyboardInterrupt


def begun(asked: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a fit that ended after counting."""
    with monkeypatch.context() as patched:
        patched.setattr(module, "trim", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(asked)


def never(*_given: object, **_more: object) -> None:
    raise AssertionError("the traffic was counted again")


def test_a_fit_that_was_interrupted_goes_on(asked: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(asked, monkeypatch)
    told: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(counting, "count", never)
        result = fit(replace(asked, gamma=5), notice=told.append)
    assert result.made is not None
    assert told == [
        f"{asked.output / 'counts.safetensors'} has the counts of this traffic already, so it is "
        "not read again"
    ]
    with pytest.raises(OutputExists):
        fit(asked)
    assert fit(asked, force=True).made is not None


def test_a_fit_that_was_interrupted_is_not_lost_to_another(
    asked: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun(asked, monkeypatch)
    other = write_traffic(tmp_path / "other.jsonl", documents=30)
    with pytest.raises(OutputExists, match=r"traffic .*log\.jsonl, not .*other\.jsonl; give --for"):
        fit(replace(asked, traffic=[str(other)]))
    with pytest.raises(OutputExists, match=r"with drafter .*, not .*"):
        fit(replace(asked, drafter=str(tiny_eagle3(tmp_path / "e", vocab_size=V, hidden=32))))
    assert read_counts(asked.output / "counts.safetensors")[0].n_documents == 200
    fit(replace(asked, traffic=[str(other)]), force=True)
    assert read_counts(asked.output / "counts.safetensors")[0].n_documents == 30


def test_a_fault_is_not_exported(asked: Fit) -> None:
    # layers in an order in which no engine feeds them
    edit(Path(asked.drafter), config={"eagle_aux_hidden_state_layer_ids": [5, 4, 2]})
    result = fit(asked)
    assert result.faulty
    assert result.made is not None
    assert result.made.exported is None
    assert (asked.output / "trimmed").exists()
    assert not (asked.output / "for-vllm").exists()


def test_nothing_of_an_earlier_fit_stays(asked: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    from vocabtrim.pipeline.fitting import choice

    fit(asked)
    fit(replace(asked, engine="sglang"), force=True)
    assert not (asked.output / "for-vllm").exists()
    monkeypatch.setattr(choice, "WORTH_TRIMMING", 0.0)
    assert fit(asked, force=True).made is None
    assert {path.name for path in asked.output.iterdir()} == {
        "counts.safetensors",
        "fit.json",
        "vocab.safetensors",
        "vocabtrim.json",
    }


def test_only_a_fit_is_replaced(asked: Fit, tmp_path: Path) -> None:
    fit(asked)
    trimmed = asked.output / "trimmed"
    before = raw_tensors(trimmed)
    for force in (False, True):
        with pytest.raises(OutputExists, match=r"it is no fit \(trimmed drafter\): choose another"):
            fit(replace(asked, output=trimmed), force=force)
    assert raw_tensors(trimmed) == before


class TestOneOfSeveralFamilies:
    """A target with prediction layers drafts for itself, and for larger ones as a model."""

    @pytest.fixture
    def of_several(self, asked: Fit, tmp_path: Path) -> Fit:
        path = tmp_path / "several"
        mtp.PLUGIN.tiny_checkpoint(path, vocab_size=V, hidden=32)
        edit(path, config={"architectures": ["Qwen3ForCausalLM"]})
        write_tokenizer(path)
        return replace(asked, drafter=str(path), target=str(path), top_k=64)

    def test_its_prediction_layers(self, of_several: Fit) -> None:
        with pytest.raises(CheckpointError, match="independent and mtp at once: say with --family"):
            fit(of_several)
        result = fit(replace(of_several, family="mtp"))
        assert result.made is not None
        assert result.made.trimmed.family == "mtp"
        assert result.made.exported is not None
        assert '"method": "mtp"' in (result.made.exported.command or "")
        reads = engine_named("vllm").read_back(of_several.output / "for-vllm", Container.FLAT)
        assert reads.rows == 64

    def test_the_model_itself(self, of_several: Fit) -> None:
        result = fit(replace(of_several, family="independent"))
        assert result.made is not None
        assert result.made.exported is not None
        assert '"method": "draft_model"' in (result.made.exported.command or "")


class TestRowsAskedFor:
    """`top_k` is held to what `select` holds its K to, over the ids of the head."""

    @pytest.fixture
    def little(self, asked: Fit) -> Fit:
        return replace(asked, traffic=[str(write_traffic(Path(asked.traffic[0]), documents=3))])

    def test_more_than_there_are(self, little: Fit) -> None:
        n_ids = Tokenizer.open(Path(little.target)).vocab_size
        with pytest.raises(VocabError, match=f"between 1 and the {n_ids} ids there are, found 300"):
            fit(replace(little, top_k=300))

    def test_all_of_a_padded_head(self, little: Fit) -> None:
        n_ids = Tokenizer.open(Path(little.target)).vocab_size
        result = fit(replace(little, top_k=n_ids))
        assert result.choice.K == n_ids < V
        assert read_vocab(little.output / "vocab.safetensors")[0].size == n_ids
        assert result.made is not None
        assert n_ids == result.made.trimmed.K

    def test_fewer_than_must_be_kept(self, little: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(KeepIds, "of", lambda _self, _counts: np.arange(100))
        with pytest.raises(VocabError, match="K = 64 is smaller than the 100 ids that must be"):
            fit(replace(little, top_k=10))
        assert fit(replace(little, top_k=100)).choice.K == 128


def test_what_must_be_kept_has_room_however_k_is_chosen(
    asked: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An added token may be seen in documents that were held out, and in no other."""
    monkeypatch.setattr(module, "smallest", lambda *_: SizeChoice(64, 2, "of the others"))
    monkeypatch.setattr(KeepIds, "of", lambda _self, _counts: np.arange(100))
    assert fit(asked).choice.K == 128
    assert read_vocab(asked.output / "vocab.safetensors")[0].ids[:100].tolist() == list(range(100))


def test_the_output_is_no_traffic(asked: Fit, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    write_traffic(logs / "log.jsonl", documents=60)
    inside = replace(asked, traffic=[str(logs)], output=logs / "out")
    assert fit(inside).counted.files == 1
    again = fit(inside, force=True, restart=True)
    assert (again.counted.files, again.counted.documents) == (1, 60)


def trace_of(asked: Fit, path: Path, **changes: object) -> Path:
    """Write a trace that fits the pair as far as anybody can tell, but for `changes`."""
    tokenizer = Tokenizer.open(Path(asked.target))
    fitting = {"vocab_size": tokenizer.vocab_size, "tokenizer": tokenizer.fingerprint}
    trace = replace(World(0).trace(), **(fitting | changes))
    write_trace(path, trace, inputs={}, options={}, facts={})
    return path


def latency_of(path: Path, steps: dict[int, float], **changes: object) -> Path:
    timed = Latency(1, steps, {1: 10.0, 3: 10.5, 9: 11.0}, 0.0)
    latencies = replace(Latencies("t", "d", None, None, (timed,), {}), **changes)
    path.write_text(json.dumps(latencies.to_json()))
    return path


def test_a_trace_chooses_k_and_the_draft_length(asked: Fit, tmp_path: Path) -> None:
    n_ids = Tokenizer.open(Path(asked.target)).vocab_size
    planned = replace(asked, traces=[trace_of(asked, tmp_path / "trace")], gamma=1)
    fast = latency_of(tmp_path / "fast", {256: 0.01, n_ids: 4.0})
    result = fit(replace(planned, latency=fast))
    assert result.choice.K == 256
    assert result.choice.reason.startswith("trim: K = 256 at γ = ")
    assert result.choice.gamma > 1
    assert result.made is not None
    equal = latency_of(tmp_path / "equal", {256: 1.0, n_ids: 1.0})
    kept = fit(replace(planned, latency=equal, output=tmp_path / "kept"))
    assert kept.made is None
    assert n_ids == kept.choice.K


def test_a_latency_alone_can_only_advise_against(asked: Fit, tmp_path: Path) -> None:
    n_ids = Tokenizer.open(Path(asked.target)).vocab_size
    slow = latency_of(tmp_path / "slow", {64: 100.0, n_ids: 100.0})
    against = fit(replace(asked, latency=slow, output=tmp_path / "against"))
    assert against.made is None
    assert f"do not speculate: the best point, K = {against.choice.K}" in against.choice.reason
    assert f"at γ = {asked.gamma}," in against.choice.reason
    fast = latency_of(tmp_path / "fast", {64: 0.1, n_ids: 1.0})
    result = fit(replace(asked, latency=fast))
    plain = fit(replace(asked, output=tmp_path / "plain"))
    assert result.choice == plain.choice
    assert "without a trace this is a bound" in result.warnings[0]
