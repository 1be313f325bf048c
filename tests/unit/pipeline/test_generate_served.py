"""A served model's answers, from a server that fails in every way it can."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.misbehaving_server import (
    MisbehavingServer,
    always,
    answer_ids,
    seeded,
    serving,
    well,
)
from tests.tiny_models import write_tokenizer
from vocabtrim.core.errors import (
    CalibrationError,
    DecodeError,
    EnvironmentFailure,
    OutputExists,
    ServerError,
)
from vocabtrim.engines.openai import exchange
from vocabtrim.engines.openai.asking import Patience, Server
from vocabtrim.engines.openai.exchange import Endpoint
from vocabtrim.engines.openai.wire import Asking, Text
from vocabtrim.pipeline.answering import GenerateResult
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.generate_served import emits, generate_served
from vocabtrim.tokens.tokenizer import Tokenizer

COUNT = 30


@pytest.fixture(autouse=True)
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_BYTES", 1 << 19)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), chat=True)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    records = [{"prompt": f"question {n}", "id": f"p{n}", "domain": "d"} for n in range(COUNT)]
    # the same prompt twice is one prompt
    file.write_text("".join(json.dumps(record) + "\n" for record in [*records, records[3]]))
    return file


def run(
    behind: MisbehavingServer,
    prompts: Path,
    output: Path,
    *,
    asking: dict[str, Any] | None = None,
    patience: dict[str, Any] | None = None,
    **options: Any,
) -> GenerateResult:
    settings = {"concurrency": 6, "timeout_s": 0.4, "retries": 1, "pause_s": 0.01}
    server = Server(
        Endpoint.parse(behind.url),
        Asking(**({"model": "tiny", "max_new_tokens": 8} | (asking or {}))),
        Patience(**(settings | (patience or {}))),
    )
    return generate_served([prompts], server, output, **options)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp", "somebody"])
def test_lines_are_those_of_generate_with_ids_where_they_are_given(
    prompts: Path, tokenizer: Path, tmp_path: Path, kind: str
) -> None:
    with serving(kind=kind) as behind:
        result = run(behind, prompts, tmp_path / "out", tokenizer=tokenizer)
    lines = lines_of(tmp_path / "out")
    assert [line["id"] for line in lines] == [f"p{n}" for n in range(COUNT)]
    fingerprint = Tokenizer.open(tokenizer).fingerprint
    knows = kind != "somebody"
    for number, line in enumerate(lines):
        ids = answer_ids(f"question {number}", None)
        assert line["completion_ids"] == (ids if knows else None)
        assert line["tokenizer"] == (fingerprint if knows else None)
        assert len(line["completion"].split()) == len(ids) - 1
        assert (line["model"], line["seed"], line["domain"]) == ("tiny", 0, "d")
        assert line["finish_reason"] == "stop"
    assert result.without_ids == (0 if knows else COUNT)
    if knows:
        assert result.new_tokens == sum(len(line["completion_ids"]) for line in lines)
        assert result.warnings == ()
    else:
        assert "30 answers came without token ids" in result.warnings[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_failing_server_leaves_every_prompt_done_or_listed(
    prompts: Path, tokenizer: Path, tmp_path: Path, seed: int
) -> None:
    output = tmp_path / "out"
    everything = {f"p{n}" for n in range(COUNT)}
    with serving(seeded(seed, good=0.4)) as behind:
        result = run(behind, prompts, output, tokenizer=tokenizer)
        failed = {failure.key for failure in result.failures}
        done = [line["id"] for line in lines_of(tmp_path / "out.part")[1:]]
        assert len(done) == len(set(done)) == result.completions
        assert failed
        assert failed.isdisjoint(done)
        assert failed | set(done) == everything
        assert not output.exists()
        first = dict(behind.asked)
        behind.script = well
        finished = run(behind, prompts, output, tokenizer=tokenizer)
        assert finished.failures == ()
        assert finished.continued == len(done)
        for key in done:
            text = f"question {key[1:]}"
            assert behind.asked[text] == first[text]
    lines = lines_of(output)
    assert [line["id"] for line in lines] == [f"p{n}" for n in range(COUNT)]
    assert all(line["completion_ids"] for line in lines)
    assert not (tmp_path / "out.part").exists()


def test_however_often_it_fails_the_lines_are_the_same(
    prompts: Path, tokenizer: Path, tmp_path: Path
) -> None:
    sampling = {"temperature": 1.0, "seed": 3}
    outputs = []
    for seed, good in ((0, 1.0), (1, 0.3), (2, 0.5)):
        output = tmp_path / f"out{seed}"
        with serving(seeded(seed, good=good)) as behind:
            for _ in range(40):
                result = run(behind, prompts, output, asking=sampling, tokenizer=tokenizer)
                if not result.failures:
                    break
            else:
                pytest.fail("it never finished")
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_samples_have_seeds_of_their_own(prompts: Path, tmp_path: Path) -> None:
    with serving() as behind:
        sampling = {"temperature": 0.8, "top_p": 0.9, "seed": 1}
        run(behind, prompts, tmp_path / "out", asking=sampling, samples=3, limit=4)
        seeds = [request["seed"] for request in behind.requests]
        assert {request["top_p"] for request in behind.requests} == {0.9}
    assert len(set(seeds)) == 12
    lines = lines_of(tmp_path / "out")
    assert [line["id"] for line in lines[:4]] == ["p0/0", "p0/1", "p0/2", "p1/0"]
    assert len({line["completion"] for line in lines}) > 4
    # the seed of the line is the run's: those that were sent follow from it
    assert {line["seed"] for line in lines} == {1}


def test_raw_prompts_are_sent_as_text(prompts: Path, tmp_path: Path) -> None:
    with serving() as behind:
        run(behind, prompts, tmp_path / "out", asking={"raw": True}, limit=2)
        assert {request["prompt"] for request in behind.requests} == {"question 0", "question 1"}
        conversation = tmp_path / "chat.jsonl"
        turns = [{"role": "system", "content": "be"}, {"role": "user", "content": "red"}]
        conversation.write_text(json.dumps({"messages": turns}))
        with pytest.raises(CalibrationError, match="is a conversation"):
            run(behind, conversation, tmp_path / "two", asking={"raw": True})
        assert len(behind.requests) == 2


def test_ids_without_a_tokenizer_are_kept_and_not_named(prompts: Path, tmp_path: Path) -> None:
    with serving() as behind:
        result = run(behind, prompts, tmp_path / "out", limit=2)
    for line in lines_of(tmp_path / "out"):
        assert line["completion_ids"]
        assert line["tokenizer"] is None
    (warning,) = result.warnings
    assert warning.startswith("2 answers have token ids that were not checked")


def test_ids_of_another_tokenizer_are_left_out(
    prompts: Path, tokenizer: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    document = json.loads((tokenizer / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary["red"], vocabulary["w40"] = vocabulary["w40"], vocabulary["red"]
    (other / "tokenizer.json").write_text(json.dumps(document))
    with serving() as behind:
        result = run(behind, prompts, tmp_path / "out", tokenizer=other)
    lines = lines_of(tmp_path / "out")
    with_red = [line for line in lines if "red" in line["completion"].split()]
    assert with_red
    assert all(line["completion_ids"] is line["tokenizer"] is None for line in with_red)
    assert f"{len(with_red)} answers have token ids that do not decode" in result.warnings[0]
    assert result.without_ids == len(with_red)


def test_what_is_written_can_be_counted(prompts: Path, tokenizer: Path, tmp_path: Path) -> None:
    with serving() as behind:
        run(behind, prompts, tmp_path / "ids.jsonl", tokenizer=tokenizer)
    with serving(kind="somebody") as behind:
        run(behind, prompts, tmp_path / "text.jsonl", tokenizer=tokenizer)
    totals = []
    for name in ("ids", "text"):
        output = tmp_path / f"{name}.safetensors"
        totals.append(count([str(tmp_path / f"{name}.jsonl")], tokenizer, output).to_json())
    assert "OTHER" not in str(totals)
    tokens = [total["count"]["tokens"] for total in totals]
    # text alone has no EOS in it, one a line
    assert tokens[0] == tokens[1] + COUNT


@pytest.mark.parametrize(
    ("ids", "text", "same"),
    [
        ((6, 9, 2), Text("red one", None, (), "stop"), True),
        ((6, 9, 2), Text(" red\n one ", None, (), "stop"), True),
        ((6, 9), Text("red one", None, (), "length"), True),
        ((6, 9), Text("red", None, (), "length"), True),
        ((6, 9, 2), Text("red one\N{REPLACEMENT CHARACTER}", None, (), "length"), True),
        ((2,), Text("", None, (), "stop"), True),
        ((6, 9, 2), Text("red two", None, (), "stop"), False),
        ((6, 9, 2), Text("one", None, (), "stop"), False),
        ((6, 9, 2), Text("", None, (), "stop"), False),
        ((9000,), Text("", None, (), "stop"), False),
        ((6, 2, 9000), Text("red", None, (), "stop"), False),
        ((6, 7, 9, 2), Text("one", "red green", (), "stop"), True),
        ((6, 7, 9, 2), Text("one", "green", (), "stop"), True),
        ((6, 7, 9, 2), Text("one", "blue", (), "stop"), False),
        ((6, 7, 9, 2), Text("red", "green one", (), "stop"), False),
        ((6, 7), Text("", "red green", (), "length"), True),
    ],
)
def test_ids_are_proved_by_what_they_decode_to(
    tokenizer: Path, ids: tuple[int, ...], text: Text, *, same: bool
) -> None:
    given = Text(text.content, text.reasoning, ids, text.finish_reason)
    assert emits(Tokenizer.open(tokenizer), given) is same


def test_reasoning_belongs_to_the_text_only_where_ids_prove_it(
    prompts: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thinking(_body: bytes) -> Text:
        return Text("one", "red green", (6, 7, 9, 2), "stop")

    monkeypatch.setattr("vocabtrim.engines.openai.asking.read_text", thinking)
    with serving() as behind:
        run(behind, prompts, tmp_path / "ids", tokenizer=tokenizer, limit=1)
        result = run(behind, prompts, tmp_path / "text", limit=1)
    (line,) = lines_of(tmp_path / "ids")
    assert line["completion"] == "red green one"
    assert "reasoning" not in line
    (line,) = lines_of(tmp_path / "text")
    assert (line["completion"], line["reasoning"]) == ("one", "red green")
    assert any("reasoning apart from their text" in warning for warning in result.warnings)


def test_a_server_that_refuses_extensions_is_told_of(prompts: Path, tmp_path: Path) -> None:
    with serving(kind="somebody") as behind:
        behind.refuses = frozenset({"verbose", "return_token_ids"})
        result = run(behind, prompts, tmp_path / "out")
    assert result.completions == COUNT
    assert any("refuses fields beyond the OpenAI protocol" in one for one in result.warnings)


def test_the_server_may_move_but_not_what_is_asked(prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"

    def half(text: str, _asked: int) -> str:
        return "answer" if text.endswith(("1", "2", "3")) else "status 500"

    with serving(half) as behind:
        kept = run(behind, prompts, output, patience={"retries": 0}).completions
        assert 0 < kept < COUNT
    with serving() as behind:
        with pytest.raises(OutputExists, match="begun with max_new_tokens 8, not 9"):
            run(behind, prompts, output, asking={"max_new_tokens": 9})
        assert run(behind, prompts, output, patience={"concurrency": 1}).continued == kept


def test_torch_is_not_needed() -> None:
    code = "import sys, vocabtrim.pipeline.generate_served; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_errors_before_the_first_prompt(prompts: Path, tokenizer: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with serving() as behind:
        url = behind.url
        with pytest.raises(ServerError, match="limit must be at least 1"):
            run(behind, prompts, output, limit=0)
        with pytest.raises(DecodeError, match="greedy samples are all the same"):
            run(behind, prompts, output, samples=2)
        with pytest.raises(ServerError, match="serves tiny, not 'other'"):
            run(behind, prompts, output, asking={"model": "other"})
        output.write_text("mine")
        with pytest.raises(OutputExists):
            run(behind, prompts, output)
        assert behind.requests == []
        output.unlink()
    with serving(always("status 403")) as behind, pytest.raises(ServerError, match="refuses"):
        run(behind, prompts, tmp_path / "refused")
    gone = Server(Endpoint.parse(url), Asking("tiny", 8), Patience(pause_s=30.0))
    with pytest.raises(EnvironmentFailure, match="no server at"):
        generate_served([prompts], gone, tmp_path / "gone")
    assert not output.exists()
    # nothing was answered, so that another command may begin instead
    with serving() as behind:
        assert not run(behind, prompts, tmp_path / "gone", asking={"max_new_tokens": 9}).failures
