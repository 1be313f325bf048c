from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.tiny import tiny_eagle3
from tests.tiny_models import V, reference_greedy, write_target
from vocabtrim.core.errors import (
    ArtifactError,
    CheckpointError,
    DecodeError,
    OutputExists,
    TokenizerMismatch,
)
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode import batch
from vocabtrim.pipeline.answering import GenerateResult
from vocabtrim.pipeline.generate import generate
from vocabtrim.pipeline.trim import trim
from vocabtrim.tokens.prompts import PromptEncoder, read_prompts
from vocabtrim.tokens.tokenizer import Tokenizer

KEYS = [
    "id",
    "domain",
    "messages",
    "completion",
    "completion_ids",
    "finish_reason",
    "model",
    "seed",
    "tokenizer",
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("target"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    words = ["red", "red green blue", "one", "two three", "three two one red"]
    records = [
        {"prompt": text, "id": f"p{index}", "domain": "even" if index % 2 == 0 else None}
        for index, text in enumerate(words)
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def run(prompts: Path, target: Path, output: Path, **options: Any) -> GenerateResult:
    settings: dict[str, Any] = {"max_new_tokens": 12, "batch_size": 2, "model": "tiny"}
    return generate([prompts], target, output, **(settings | options))


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, fault: BaseException) -> None:
    """Let the generation die after some answers."""
    original = batch.generate_batched

    def dying(*args: Any, **options: Any) -> Any:
        for number, completion in enumerate(original(*args, **options)):
            if number == count:
                raise fault
            yield completion

    monkeypatch.setattr(batch, "generate_batched", dying)


def test_lines_have_the_keys_and_the_text_of_generate(
    prompts: Path, target: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    result = run(prompts, target, output)
    lines = lines_of(output)
    assert [line["id"] for line in lines] == ["p0", "p1", "p2", "p3", "p4"]
    assert all(list(line) == KEYS for line in lines)
    assert [line["domain"] for line in lines] == ["even", None, "even", None, "even"]
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    encoder = PromptEncoder(target)
    for prompt, line in zip(read_prompts([prompts]), lines, strict=True):
        expected = reference_greedy(model, encoder.encode(prompt).tolist(), 12)
        assert line["completion_ids"] == expected
        assert line["finish_reason"] == ("stop" if expected[-1] == 2 else "length")
        words = [encoder.tokenizer.token(one) for one in expected]
        # special tokens are in the ids and not in the text
        assert line["completion"].split() == [word for word in words if word[0] != "<"]
        assert line["messages"] == list(prompt.messages)
        assert (line["model"], line["seed"]) == ("tiny", 0)
        assert line["tokenizer"] == Tokenizer.open(target).fingerprint
    assert not output.with_name("out.jsonl.part").exists()
    assert (result.prompts, result.completions, result.continued) == (5, 5, 0)
    assert result.new_tokens == sum(len(line["completion_ids"]) for line in lines)
    assert result.stopped == sum(line["finish_reason"] == "stop" for line in lines)
    assert result.to_json()["generate"]["output"] == str(output)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), RuntimeError("killed")])
def test_the_same_command_continues(
    prompts: Path,
    target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: BaseException,
) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    sampling = {"temperature": 1.0, "seed": 5}
    run(prompts, target, whole, **sampling)
    with monkeypatch.context() as patched:
        stop_after(patched, 3, fault)
        with pytest.raises(type(fault)):
            run(prompts, target, output, **sampling)
    part = output.with_name("out.jsonl.part")
    assert not output.exists()
    assert len(lines_of(part)) == 1 + 3
    # a crash in the middle of a write leaves a torn line, which is made again
    with part.open("a") as stream:
        stream.write('{"id": "p9", "completion')
    kept = [line["id"] for line in lines_of_whole(part)]
    result = run(prompts, target, output, **sampling)
    assert result.continued == 3
    assert len(kept) == 3
    assert output.read_bytes() == whole.read_bytes()
    assert not part.exists()


def lines_of_whole(part: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in part.read_text().split("\n")[1:-1]]


def test_a_complete_part_needs_no_model(prompts: Path, target: Path, tmp_path: Path) -> None:
    output, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    header = unfinished(prompts, target, tmp_path, answers=5)
    assert len(part.read_text().splitlines()) == 6
    assert header["vocabtrim generate"]["max_new_tokens"] == 12
    result = run(prompts, target, output)
    assert (result.continued, result.tokens_per_second) == (5, None)
    assert [line["id"] for line in lines_of(output)] == ["p0", "p1", "p2", "p3", "p4"]


def unfinished(prompts: Path, target: Path, directory: Path, *, answers: int) -> Any:
    """Leave `out.jsonl.part` behind and return its header."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        run(prompts, target, directory / "out.jsonl")
    (directory / "out.jsonl").unlink()
    part = directory / "out.jsonl.part"
    kept = part.read_text().splitlines(keepends=True)[: 1 + answers]
    part.write_text("".join(kept))
    return json.loads(kept[0])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"max_new_tokens": 5}, "begun with max_new_tokens 12, not 5"),
        ({"temperature": 0.5}, "begun with temperature 0.0, not 0.5"),
        ({"model": "other"}, "begun with model tiny, not other"),
        ({"limit": 2}, "begun with prompts"),
    ],
)
def test_another_command_does_not_continue(
    prompts: Path, target: Path, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    unfinished(prompts, target, tmp_path, answers=2)
    with pytest.raises(OutputExists, match=named):
        run(prompts, target, tmp_path / "out.jsonl", **changed)
    result = run(prompts, target, tmp_path / "out.jsonl", force=True, **changed)
    assert result.continued == 0


def test_what_is_no_part_is_not_replaced(prompts: Path, target: Path, tmp_path: Path) -> None:
    part = tmp_path / "out.jsonl.part"
    part.write_text('{"dear": "diary"}\n')
    with pytest.raises(OutputExists, match="no unfinished output of vocabtrim"):
        run(prompts, target, tmp_path / "out.jsonl")
    part.write_text("not json\n")
    with pytest.raises(ArtifactError, match="is damaged"):
        run(prompts, target, tmp_path / "out.jsonl")
    assert part.read_text() == "not json\n"


def test_samples_differ_and_are_named(prompts: Path, target: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    run(prompts, target, output, samples=2, temperature=1.0, limit=2, seed=9)
    lines = lines_of(output)
    assert [line["id"] for line in lines] == ["p0/0", "p0/1", "p1/0", "p1/1"]
    assert lines[0]["completion_ids"] != lines[1]["completion_ids"]
    assert {line["seed"] for line in lines} == {9}


def test_a_sample_does_not_depend_on_the_batch(prompts: Path, target: Path, tmp_path: Path) -> None:
    answers = []
    for size in (1, 5):
        output = tmp_path / f"{size}.jsonl"
        run(prompts, target, output, temperature=1.0, top_p=0.9, batch_size=size)
        answers.append(output.read_bytes())
    assert answers[0] == answers[1]


def test_an_output_is_not_overwritten(prompts: Path, target: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    with pytest.raises(OutputExists):
        run(prompts, target, output)
    assert output.read_text() == "mine"
    run(prompts, target, output, force=True)
    assert len(lines_of(output)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "at least 1"),
        ({"samples": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"samples": 2}, "greedy samples are all the same"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"dtype": "int3"}, "dtype must be one of"),
    ],
)
def test_options_out_of_range(
    prompts: Path, target: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DecodeError, match=message):
        run(prompts, target, tmp_path / "out.jsonl", **options)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_prompt_beyond_the_context_is_named(target: Path, tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("red\n" + "red " * 300 + "\n")
    with pytest.raises(DecodeError, match=r"has 30\d tokens, but the model's context is 256"):
        run(file, target, tmp_path / "out.jsonl")


def test_raw_text_and_its_warning(prompts: Path, tmp_path: Path) -> None:
    bare = write_target(tmp_path / "bare", chat=False)
    result = run(prompts, bare, tmp_path / "out.jsonl", limit=1)
    assert result.warnings == (
        "the tokenizer has no chat template, so prompts were read as raw text",
    )
    assert result.prompt_tokens == 2
    asked = run(prompts, bare, tmp_path / "raw.jsonl", limit=1, raw=True)
    assert asked.warnings == ()


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target with layers enough for EAGLE-3's features."""
    return write_target(tmp_path_factory.mktemp("deep"), num_hidden_layers=4)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("lm"), seed=7)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 2}])
def test_an_independent_drafter_writes_what_it_would_as_a_model(
    prompts: Path, deep: Path, lm: Path, tmp_path: Path, sampling: dict[str, Any]
) -> None:
    run(prompts, deep, tmp_path / "drafted", drafter=lm, **sampling)
    run(prompts, lm, tmp_path / "own", **sampling)
    run(prompts, deep, tmp_path / "target", **sampling)
    assert (tmp_path / "drafted").read_bytes() == (tmp_path / "own").read_bytes()
    assert (tmp_path / "drafted").read_bytes() != (tmp_path / "target").read_bytes()


def test_a_trimmed_drafter_writes_over_its_ids(
    prompts: Path, deep: Path, lm: Path, tmp_path: Path
) -> None:
    kept = DraftVocab.from_ids([*range(0, V, 2)], V)
    trim(lm, kept, tmp_path / "trimmed")
    run(prompts, deep, tmp_path / "out", drafter=tmp_path / "trimmed")
    written = {one for line in lines_of(tmp_path / "out") for one in line["completion_ids"]}
    assert written <= set(kept.ids.tolist())


def test_an_eagle3_drafter_writes_after_the_target_s_first_token(
    prompts: Path, deep: Path, tmp_path: Path
) -> None:
    eagle = tiny_eagle3(tmp_path / "eagle", ids=range(0, V, 3))
    result = run(prompts, deep, tmp_path / "drafted", drafter=eagle, model=None)
    run(prompts, deep, tmp_path / "target")
    for drafted, target in zip(
        lines_of(tmp_path / "drafted"), lines_of(tmp_path / "target"), strict=True
    ):
        assert drafted["completion_ids"][0] == target["completion_ids"][0]
        assert all(one % 3 == 0 for one in drafted["completion_ids"][1:])
        assert drafted["model"] == "eagle"
        assert drafted["tokenizer"] == target["tokenizer"]
    assert result.model == "eagle"


def test_a_drafter_does_not_continue_what_the_target_began(
    prompts: Path, deep: Path, lm: Path, tmp_path: Path
) -> None:
    unfinished(prompts, deep, tmp_path, answers=2)
    with pytest.raises(OutputExists, match=r"begun with target None|begun with drafter None"):
        run(prompts, deep, tmp_path / "out.jsonl", drafter=lm)


def test_a_drafter_that_is_none_or_not_the_target_s(
    prompts: Path, deep: Path, tmp_path: Path
) -> None:
    other = write_target(tmp_path / "other", chat=False)
    vocabulary = json.loads((other / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    words["red"], words["blue"] = words["blue"], words["red"]
    (other / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(TokenizerMismatch, match="another tokenizer than the target's"):
        run(prompts, deep, tmp_path / "out", drafter=other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty"):
        run(prompts, deep, tmp_path / "out", drafter=tmp_path / "empty")
