"""`bench` on the real engines: the demo pair, few tokens, what the engines count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import engine_acceptance, real_shapes
from benchmarks.random_models import Shape
from tests.engines.llama_cpp import convert, require
from tools.engines import llama_binary, vllm_python
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.engines.serving.base import EngineError, serving_named
from vocabtrim.engines.serving.launch import Limits
from vocabtrim.pipeline.bench import Plan, bench
from vocabtrim.pipeline.benching.result import BenchResult
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.built_in import demo_drafter, demo_target
from vocabtrim.tokens.prompts import Prompt
from vocabtrim.tokens.tokenizer import fingerprint_of

pytestmark = pytest.mark.engine

TEXTS = ("Write a short story about a lighthouse.", "How do I reverse a list in Python?")
PROMPTS = [Prompt(text, ({"role": "user", "content": text},)) for text in TEXTS]
TOKENS, GAMMA = 24, 2
PATIENT = Limits(start_s=900.0, answer_s=600.0)
QUIETLY = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512")


@pytest.fixture(scope="module")
def vocab(demo_cache: Path) -> DraftVocab:
    ids = np.unique(np.concatenate([np.arange(2000), np.arange(2000, 49_152, 997)]))
    return DraftVocab(ids, 49_152, fingerprint_of(demo_target()))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, vocab: DraftVocab) -> list[str]:
    """The demo drafter as GGUF, full and trimmed."""
    require("llama.cpp", "vllm")
    place = tmp_path_factory.mktemp("gguf")
    full = convert(demo_drafter("eagle3"), place / "full.gguf", outtype="f16", target=demo_target())
    trim(full, vocab, place / "trimmed.gguf", target=demo_target())
    return [str(full), str(place / "trimmed.gguf")]


def on_llama_cpp(files: list[str], **given: Any) -> BenchResult:
    plan = Plan(repeat=1, max_new_tokens=TOKENS, limits=PATIENT, **given.pop("plan", {}))
    options: dict[str, Any] = {"gammas": [GAMMA], "arguments": ["-t", "1"]} | given
    engine, program = serving_named("llama.cpp"), llama_binary("llama-server")
    return bench(PROMPTS, engine, "demo", files, plan=plan, server_bin=program, **options)


def check_counts(result: BenchResult, V: int, K: int) -> None:
    plain, _, full, trimmed = result.runs[:4]
    assert (plain.run.V, full.run.K, trimmed.run.K) == (V, V, K)
    for run in (full, trimmed):
        histogram = run.run.accepted_histogram
        assert histogram is not None
        assert run.accepted == sum(j * cycles for j, cycles in enumerate(histogram))
        assert sum(histogram) == run.run.cycles
        assert run.drafted is not None
        assert run.run.cycles is not None
        assert run.drafted <= GAMMA * run.run.cycles
        # tokens are the prefill's, the accepted ones, and one for each pass
        emitted = run.run.prompts + run.accepted + run.run.cycles
        assert emitted == pytest.approx(run.run.new_tokens, abs=2 * run.run.prompts)
        assert run.accepted > 0
        assert run.run.tokens_per_second
        assert run.peak_memory_bytes
        assert run.start_s
    assert not result.warnings


def test_llama_cpp_from_end_to_end(files: list[str], vocab: DraftVocab) -> None:
    result = on_llama_cpp(files, plan={"concurrency": 2})
    check_counts(result, 49_152, vocab.size)
    assert [run.concurrency for run in result.runs] == [1] * 4 + [2] * 4
    assert result.facts["together"] is True
    assert len(result.gains) == 2
    assert result.runs[1].same_text == {"identical": 2, "of": 2}


def test_llama_cpp_says_why_it_refuses(tmp_path: Path, files: list[str]) -> None:
    data = Path(files[1]).read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data.replace(b"eagle3.target_hidden_size", b"eagle3.target_hidden_sizf"))
    with pytest.raises(EngineError, match=r"(?s)llama\.cpp ended before it was up.*said:\n"):
        on_llama_cpp([files[0], str(broken)])
    with pytest.raises(EngineError, match=r"(?s)said:\n.*--no-such-option"):
        on_llama_cpp([], arguments=["--no-such-option"])


def test_random_shapes_are_timed(tmp_path: Path) -> None:
    require("llama.cpp")
    tiny = Shape("Tiny", "qwen3", 256, 8, 4, 2, 64, 512, 8192)
    words = ["--server-bin", str(llama_binary("llama-server")), "--rows", "1024", "--gammas", "2"]
    options = real_shapes.parsed([*words, "--seconds", "0", "--threads", "1", "--type", "Q8_0"])
    found = real_shapes.run(options, {"Tiny": tiny})
    points = {(one["rows"], one["gamma"]): one for one in found["real_shapes"]}
    assert set(points) == {(0, 0), (1024, 2), (8192, 2)}
    assert all(0 < one["cycle_ms"] < 10_000 for one in points.values())
    assert all(one["accepted"] <= 0.02 for one in points.values())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, vocab: DraftVocab) -> str:
    """The demo drafter trimmed, as a directory."""
    require("vllm")
    output = tmp_path_factory.mktemp("vllm") / "trimmed"
    trim(demo_drafter("eagle3"), vocab, output, target=demo_target())
    return str(output)


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")


@pytest.mark.usefixtures("_little_memory")
def test_vllm_from_end_to_end(directory: str, vocab: DraftVocab) -> None:
    result = bench(
        PROMPTS,
        serving_named("vllm"),
        "demo",
        ["demo-eagle3", directory],
        gammas=[GAMMA],
        plan=Plan(repeat=1, max_new_tokens=TOKENS, limits=PATIENT),
        server_bin=vllm_python().with_name("vllm"),
        arguments=QUIETLY,
    )
    check_counts(result, 49_152, vocab.size)
    assert all(run.same_text in (None, {"identical": 2, "of": 2}) for run in result.runs)


@pytest.mark.usefixtures("_little_memory")
def test_vllm_accepts_what_our_decoder_accepts(
    directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(TEXTS))
    words = [str(prompts), "--drafter", directory, "--gamma", str(GAMMA), "--max-new-tokens", "32"]
    words += ["--server-bin", str(vllm_python().with_name("vllm")), "--", *QUIETLY]
    assert engine_acceptance.main(words) == 0, capsys.readouterr().out
    last = json.loads(capsys.readouterr().out.splitlines()[-1])["engine_acceptance"]
    assert last["same"] == 2
    assert sum(last["engine"]) > 0


def test_vllm_says_why_it_refuses() -> None:
    require("vllm")
    with pytest.raises(EngineError, match=r"(?s)said:\n.*no-such-option"):
        bench(
            PROMPTS,
            serving_named("vllm"),
            "demo",
            [],
            gammas=[],
            plan=Plan(limits=PATIENT),
            server_bin=vllm_python().with_name("vllm"),
            arguments=["--no-such-option"],
        )
