"""`vocabtrim generate` as a user meets it, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.tiny_models import write_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("target"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("red green\none two three\nblue\n")
    return tmp_path / "prompts.txt"


def test_what_is_printed_and_written(
    vocabtrim: Command, target: Path, prompts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    outcome = vocabtrim(
        *("generate", prompts, "--model", target, "-o", output, "--max-new-tokens", 5),
        *("--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["messages"][0]["content"] for line in lines] == [
        "red green",
        "one two three",
        "blue",
    ]
    assert {line["model"] for line in lines} == {str(target)}
    new = sum(len(line["completion_ids"]) for line in lines)
    assert all(1 <= len(line["completion_ids"]) <= 5 for line in lines)
    printed = outcome.out.splitlines()
    assert printed[0] == f"answers  3  →  {output}"
    assert printed[1].startswith(f"tokens   {new} new, ")
    result = json.loads((tmp_path / "r.json").read_text())["generate"]
    assert (result["completions"], result["new_tokens"]) == (3, new)


def test_options_reach_the_run(
    vocabtrim: Command, target: Path, prompts: Path, tmp_path: Path
) -> None:
    command = [
        *("generate", prompts, "-m", target, "--max-new-tokens", 4, "--limit", 2, "--samples", 2),
        *("--temperature", 1.0, "--top-k", 1, "--seed", 3, "--batch-size", 2, "--raw"),
        *("--dtype", "bfloat16"),
    ]
    outcome = vocabtrim(*command, "-o", tmp_path / "one")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (tmp_path / "one").read_text().splitlines()]
    assert len(lines) == 4
    assert {line["seed"] for line in lines} == {3}
    # of one id there is but one draw
    assert lines[0]["completion_ids"] == lines[1]["completion_ids"]
    assert vocabtrim(*command, "--top-p", 0.5, "-o", tmp_path / "two").code == 0


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--max-new-tokens", 0], 2, "max-new-tokens"),
        (["--limit", 0], 2, "at least 1"),
        (["--batch-size", 0], 2, "at least 1"),
        (["--samples", 2], 2, "greedy samples are all the same"),
        (["--model", "nowhere"], 2, "'nowhere' is neither a directory"),
        (["--dtype", "int3"], 2, "dtype must be one of"),
    ],
)
def test_bad_input_is_one_sentence(
    vocabtrim: Command,
    target: Path,
    prompts: Path,
    tmp_path: Path,
    more: list[object],
    code: int,
    says: str,
) -> None:
    outcome = vocabtrim("generate", prompts, "-m", target, "-o", tmp_path / "out", *more)
    assert outcome.code == code
    assert says in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_an_output_is_not_overwritten(
    vocabtrim: Command, target: Path, prompts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.write_text("mine")
    command = ("generate", prompts, "-m", target, "-o", output, "--max-new-tokens", 2)
    assert vocabtrim(*command).code == 2
    assert output.read_text() == "mine"
    assert vocabtrim(*command, "--force").code == 0
    assert len(output.read_text().splitlines()) == 3
