"""`vocabtrim generate` as a user meets it: a tiny model, and a server that fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.misbehaving_server import answer_ids, seeded, serving, well
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


def test_a_drafter_writes_in_the_target_s_place(
    vocabtrim: Command, target: Path, prompts: Path, tmp_path: Path
) -> None:
    drafter = write_target(tmp_path / "drafter", seed=3)
    command = ("generate", prompts, "-m", target, "--max-new-tokens", 4)
    assert vocabtrim(*command, "--drafter", drafter, "-o", tmp_path / "one").code == 0
    lines = [json.loads(line) for line in (tmp_path / "one").read_text().splitlines()]
    assert {line["model"] for line in lines} == {str(drafter)}
    assert vocabtrim(*command, "-o", tmp_path / "two").code == 0
    assert (tmp_path / "one").read_text() != (tmp_path / "two").read_text()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    file = tmp_path / "many.jsonl"
    records = [{"prompt": f"question {n}", "id": f"p{n}"} for n in range(40)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def served(url: str, prompts: Path, output: Path, *more: object) -> list[str]:
    command = ["generate", prompts, "--base-url", url, "--model", "tiny", "-o", output, *more]
    return [str(one) for one in command]


def test_a_failing_server_leaves_every_prompt_done_or_listed(
    vocabtrim: Command, target: Path, many: Path, tmp_path: Path
) -> None:
    output, result = tmp_path / "out", tmp_path / "r.json"
    options = ("--timeout", 0.5, "--retries", 0, "--concurrency", 8, "--tokenizer", target)
    with serving(seeded(1, good=0.5)) as behind:
        command = served(behind.url, many, output, *options)
        outcome = vocabtrim(*command, "--json", result)
        assert outcome.code == 4, outcome.err
        part = (tmp_path / "out.part").read_text().splitlines()[1:]
        done = {json.loads(line)["id"] for line in part}
        document = json.loads(result.read_text())["generate"]
        failed = {failure["key"] for failure in document["failures"]}
        assert done
        assert failed
        assert done | failed == {f"p{n}" for n in range(40)}
        assert not done & failed
        for failure in document["failures"]:
            assert failure["key"] in outcome.err
            assert failure["reason"] in outcome.err
        assert f"{len(failed)} of 40 answers are missing" in outcome.err
        assert f"{output}.part: run the same command again" in outcome.err
        assert outcome.out.splitlines()[0] == f"answers  {len(done)}  →  {output}.part"
        assert not output.exists()
        behind.script = well
        again = vocabtrim(*command, "--json", result)
        assert again.code == 0, again.err
        assert json.loads(result.read_text())["generate"]["failures"] == []
        # what tells of a finished run stays, as any file does
        other = served(behind.url, many, tmp_path / "other", "--json", result)
        assert vocabtrim(*other).code == 2
        assert "r.json exists" in vocabtrim(*other).err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"p{n}" for n in range(40)]
    assert all(
        line["completion_ids"] == answer_ids(line["messages"][0]["content"], None) for line in lines
    )
    assert f"({len(done)} from an earlier run)" in again.out


def test_killed_at_any_moment_it_goes_on(many: Path, target: Path, tmp_path: Path) -> None:
    output, part = tmp_path / "out", tmp_path / "out.part"
    with serving() as behind:
        behind.delay_s = 0.05
        arguments = served(behind.url, many, output, "--concurrency", 2, "--tokenizer", target)
        command = [sys.executable, "-m", "vocabtrim", *arguments]
        for lines in (3, 17):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            until = time.monotonic() + 60
            while not part.is_file() or part.read_bytes().count(b"\n") < lines:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not output.exists()
        kept = {json.loads(line).get("id") for line in part.read_bytes().split(b"\n")[1:-1]}
        asked = dict(behind.asked)
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        for key in kept:
            text = f"question {key[1:]}"
            assert behind.asked[text] == asked[text]
        with_nothing_in_the_way = served(behind.url, many, tmp_path / "whole", *arguments[8:])
        subprocess.run([*command[:3], *with_nothing_in_the_way], check=True, capture_output=True)
    assert output.read_bytes() == (tmp_path / "whole").read_bytes()
    assert len(output.read_text().splitlines()) == 40


def test_an_interrupt_does_not_wait_for_a_server_that_hangs(many: Path, tmp_path: Path) -> None:
    with serving(lambda _text, _asked: "hang") as behind:
        command = served(behind.url, many, tmp_path / "out", "--timeout", 600)
        process = subprocess.Popen(
            [sys.executable, "-m", "vocabtrim", *command], stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while behind.busiest < 16 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_nobody_there_is_one_sentence_at_once(
    vocabtrim: Command, many: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    began = time.monotonic()
    outcome = vocabtrim(*served(url, many, tmp_path / "out"))
    assert outcome.code == 1
    assert f"error: no server at {url}: Connection refused" in outcome.err
    assert time.monotonic() - began < 10


def test_a_key_comes_from_the_environment(
    vocabtrim: Command, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "sk-secret")
    with serving() as behind:
        command = served(behind.url, many, tmp_path / "out", "--api-key-env", "SERVER_KEY")
        outcome = vocabtrim(*command, "--json", tmp_path / "r.json")
        assert outcome.code == 0, outcome.err
        assert {seen["Authorization"] for seen in behind.headers_seen} == {"Bearer sk-secret"}
    written = [tmp_path / "out", tmp_path / "r.json"]
    shown = outcome.out + outcome.err + "".join(file.read_text() for file in written)
    assert "secret" not in shown
    assert "SERVER_KEY" in os.environ


def test_options_of_a_server_reach_it(vocabtrim: Command, many: Path, tmp_path: Path) -> None:
    with serving() as behind:
        options = (
            *("--temperature", 0.7, "--top-k", 9, "--top-p", 0.8, "--seed", 2, "--samples", 2),
            *("--limit", 3, "--max-new-tokens", 7, "--raw"),
        )
        outcome = vocabtrim(*served(behind.url, many, tmp_path / "out", *options))
        assert outcome.code == 0, outcome.err
        assert len(behind.requests) == 6
        request = behind.requests[0]
    assert (request["temperature"], request["top_k"], request["top_p"]) == (0.7, 9, 0.8)
    assert (request["max_tokens"], request["model"]) == (7, "tiny")
    assert request["prompt"].startswith("question")
    assert "give --tokenizer" in outcome.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--base-url", "localhost:8000"], "--base-url needs the form http://host:port/v1"),
        (["--base-url", "http://h/v1", "--drafter", "demo-lm"], "--drafter is for a model in this"),
        (["--base-url", "http://h/v1", "--batch-size", 4], "--batch-size is for a model in this"),
        (["--base-url", "http://h/v1", "--dtype", "float16"], "--dtype is for a model in this"),
        (["--base-url", "http://h/v1", "--api-key-env", "NO_SUCH"], "NO_SUCH, which is not set"),
        (["--base-url", "http://h/v1", "--concurrency", 0], "concurrency must lie in 1 to 1024"),
        (["--base-url", "http://h/v1", "--timeout", 0], "timeout must be above 0 s"),
        (["--base-url", "http://h/v1", "--retries", -1], "retries and the pause"),
        (["--base-url", "http://h/v1", "--tokenizer", "no.json"], "no such file"),
        (["--concurrency", 4], "--concurrency is for a server: give --base-url"),
        (["--api-key-env", "HOME"], "--api-key-env is for a server: give --base-url"),
        (["--tokenizer", "demo"], "--tokenizer is for a server: give --base-url"),
    ],
)
def test_options_that_contradict_each_other(
    vocabtrim: Command, prompts: Path, tmp_path: Path, more: list[object], says: str
) -> None:
    outcome = vocabtrim("generate", prompts, "-m", "tiny", "-o", tmp_path / "out", *more)
    assert outcome.code == 2, outcome.err
    assert says in " ".join(outcome.err.split())
    assert not (tmp_path / "out").exists()
