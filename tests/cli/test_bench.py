from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.fake_engine import installed
from tests.serving import ending, launcher, tell
from tests.tiny import tiny_eagle3
from tests.tiny_gguf import tiny_gguf, tiny_gguf_target
from tests.tiny_models import write_target
from vocabtrim.core.latency_file import read_latencies
from vocabtrim.engines.serving.base import Serve


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("Tell me of the sea.\nWrite a loop.\n")
    return path


@pytest.fixture
def pair(tmp_path: Path) -> list[object]:
    """Options that name a target, two drafters and the fake engine."""
    return [
        *("--engine", "llama.cpp", "--target", tiny_gguf_target(tmp_path / "t.gguf")),
        *("--drafter", tiny_gguf(tmp_path / "full.gguf")),
        *("--drafter", tiny_gguf(tmp_path / "trimmed.gguf", head="F16", ids=range(64))),
        *("--server-bin", installed(tmp_path), "--repeat", 3),
    ]


def test_tables_and_verdicts(
    vocabtrim: Command,
    prompts: Path,
    pair: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tell(monkeypatch, ms={"": 5.0, "full.gguf": 20.0, "trimmed.gguf": 10.0})
    output = tmp_path / "out.json"
    done = vocabtrim("bench", prompts, *pair, "--gamma", "1,2", "--json", output)
    assert done.code == 0, done.err
    assert "trim: " in done.out
    assert "2.000 [2.000, 2.000] times as fast" in done.out
    assert "speculation does not pay here" in done.out
    assert "measuring" not in done.out
    document = json.loads(output.read_text())
    assert [run["gamma"] for run in document["runs"]] == [0, 0, 1, 1, 2, 2]
    assert document["bench"]["gains"][0]["trim"] is True


def test_do_not_trim_exits_with_0(
    vocabtrim: Command, prompts: Path, pair: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch)
    done = vocabtrim("bench", prompts, *pair, "--gamma", 1)
    assert done.code == 0
    assert "do not trim: " in done.out


def test_what_stands_behind_the_dashes_goes_to_the_engine(
    vocabtrim: Command, prompts: Path, pair: list[object]
) -> None:
    behind = ["-t", "2", "--", "x"]
    done = vocabtrim("bench", prompts, *pair, "--gamma", 1, "--json", "-", "--", *behind)
    assert done.code == 0, done.err
    assert json.loads(done.out)["bench"]["arguments"] == behind
    refused = vocabtrim("bench", prompts, *pair, "--", "--port", "80")
    assert refused.code == 2
    assert "--port is set by the measurement" in refused.err


def test_a_family_that_is_meant_has_to_be_there(
    vocabtrim: Command, prompts: Path, pair: list[object]
) -> None:
    done = vocabtrim("bench", prompts, *pair, "--family", "mtp")
    assert done.code == 2
    assert "no drafter of the family mtp" in done.err
    done = vocabtrim("bench", prompts, *pair, "--family", "eagle3", "--gamma", 1)
    assert done.code == 0, done.err


def test_an_engine_that_refuses_is_quoted(
    vocabtrim: Command, prompts: Path, pair: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, fail="refuse", fail_with="trimmed.gguf")
    done = vocabtrim("bench", prompts, *pair)
    assert done.code == 2
    assert "wrong shape of output.weight" in done.err
    assert "Traceback" not in done.err


def test_a_server_that_is_up(vocabtrim: Command, prompts: Path, tmp_path: Path) -> None:
    with ending() as started:
        server = launcher(tmp_path).start(Serve(Path("t.gguf")), started)
        url = server.endpoint.url
        done = vocabtrim("bench", prompts, "--base-url", url, "--repeat", 1)
        assert done.code == 0, done.err
        assert f"at {url}" in done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --engine and --target"),
        (["--engine", "llama.cpp"], "give --engine and --target"),
        (["--engine", "tgi", "--target", "x"], "no engine that serves is called 'tgi'"),
        (["--engine", "llama.cpp", "--target", "x", "--gamma", "1,b"], "--gamma takes numbers"),
        (["--engine", "llama.cpp", "--target", "/nowhere.gguf"], "/nowhere.gguf is not there"),
        (["--engine", "vllm", "--target", "x", "--api-key-env", "A"], "is for --base-url"),
        (["--base-url", "http://h/v1", "--drafter", "d"], "is up already"),
        (["--base-url", "http://h/v1", "--family", "mtp"], "is up already"),
        (["--base-url", "http://h/v1", "--api-key-env", "NOT_SET_X"], "names NOT_SET_X"),
        (["--base-url", "nonsense"], "--base-url needs the form"),
        (["--engine", "vllm", "--target", "x", "--repeat", "0"], "repeat must be at least 1"),
        (["--engine", "vllm", "--target", "x", "--port", "80"], "--port must lie in"),
    ],
)
def test_what_does_not_go_together_is_said(
    vocabtrim: Command, prompts: Path, arguments: list[str], says: str
) -> None:
    done = vocabtrim("bench", prompts, *arguments)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_a_missing_engine_is_said(
    vocabtrim: Command, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    target = tiny_gguf_target(tmp_path / "t.gguf")
    done = vocabtrim("bench", prompts, "--engine", "llama.cpp", "--target", target)
    assert done.code == 2
    assert "llama-server is not on the PATH" in done.err


def test_parts_of_a_cycle_are_timed_for_plan(vocabtrim: Command, tmp_path: Path) -> None:
    write_target(tmp_path / "t", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "d")
    given = ("bench", "--micro", "-t", tmp_path / "t", "-d", tmp_path / "d")
    output = tmp_path / "latency.json"
    done = vocabtrim(
        *given, *("-o", output, "--gamma", "1,3", "--batch", "1,2", "--top-k", "8,96"),
        *("--repeat", 2, "--json", tmp_path / "j"),
    )  # fmt: skip
    assert done.code == 0, done.err
    found = read_latencies(output)
    assert [sorted(one.draft) for one in found.batches] == [[8, 96], [8, 96]]
    assert [list(one.verify) for one in found.batches] == [[1, 2, 4], [1, 2, 4]]
    assert read_latencies(tmp_path / "j") == found
    assert "batch 2" in done.out
    for more, said in (
        (("-o", output), "latency.json exists"),
        ((), "needs --target, one --drafter and --output"),
        (("-o", output, "--engine", "vllm"), "no prompts, engine or server"),
        (("-o", output, "--family", "eagle3"), "and no --family"),
        (("-o", tmp_path / "x", "--top-k", "97"), "between 1 and the head's 96 rows"),
    ):
        refused = vocabtrim(*given, *more)
        assert refused.code == 2
        assert said in refused.err
    assert "a bench needs PROMPTS" in vocabtrim("bench", "-t", "x").err
