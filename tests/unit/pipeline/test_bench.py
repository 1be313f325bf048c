from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fake_engine import installed
from tests.serving import ending, launcher, logged, runs, tell
from tests.tiny_gguf import tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import CalibrationError, EnvironmentFailure, ServerError
from vocabtrim.engines.openai.exchange import Endpoint
from vocabtrim.engines.serving.base import EngineError, Serve, serving_named
from vocabtrim.engines.serving.launch import free_port
from vocabtrim.pipeline import bench as module
from vocabtrim.pipeline.bench import Plan, bench, bench_served
from vocabtrim.pipeline.benching.result import BenchResult
from vocabtrim.tokens.prompts import Prompt

LLAMA = serving_named("llama.cpp")
MS = {"": 10.0, "full.gguf": 20.0, "trimmed.gguf": 16.0}


def prompt(text: str, domain: str | None = None) -> Prompt:
    return Prompt(text, ({"role": "user", "content": text},), domain)


PROMPTS = [prompt("one", "x"), prompt("two", "x"), prompt("three")]


def measured(directory: Path, *, plan: Plan | None = None, **given: Any) -> BenchResult:
    target = tiny_gguf_target(directory / "t.gguf")
    full = tiny_gguf(directory / "full.gguf")
    trimmed = tiny_gguf(directory / "trimmed.gguf", head="Q8_0", ids=range(32))
    options: dict[str, Any] = {"gammas": [1, 2], "server_bin": installed(directory)}
    return bench(
        given.pop("prompts", PROMPTS),
        LLAMA,
        str(target),
        given.pop("drafters", [str(full), str(trimmed)]),
        plan=plan or Plan(repeat=2),
        **(options | given),
    )


def test_a_measurement_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(scratch))
    tell(
        monkeypatch,
        ms=MS,
        accepts={"full.gguf": 1, "trimmed.gguf": 1},
        log=str(tmp_path / "log"),
        children=True,
    )
    result = measured(tmp_path, plan=Plan(repeat=2, concurrency=2))
    assert (result.engine, result.version) == ("llama.cpp", "4711 (a fake)")
    assert len(result.runs) == 12
    rates = [run.run.tokens_per_second for run in result.runs[:6]]
    assert rates == pytest.approx([100, 100, 50, 62.5, 50, 62.5])
    assert result.runs[0].run.noise == 0.0
    gain = result.gains[0]
    assert gain.ratio.value == pytest.approx(1.25)
    assert (gain.trim, list(gain.by_gamma)) == (True, [1, 2])
    assert result.texts[0].passed
    assert result.runs[2].run.K == 96
    assert result.runs[3].run.K == 32
    assert set(result.runs[2].run.domains) == {"x"}
    assert result.facts["together"]
    assert result.facts["servers"] == 6
    assert logged(tmp_path / "log")
    assert not any(map(runs, logged(tmp_path / "log")))
    assert not list(scratch.iterdir())


def test_no_gain_is_do_not_trim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, ms=dict.fromkeys(MS, 10.0))
    (gain,) = measured(tmp_path).gains
    assert not gain.trim
    assert "includes 1" in gain.verdict()


def test_texts_that_the_trimmed_drafter_changes_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"full.gguf": ["one"], "trimmed.gguf": ["one", "three"]}
    tell(monkeypatch, ms=MS, changes=changes)
    (text,) = measured(tmp_path).texts
    assert text.different == {1: (2, 1), 2: (2, 1)}
    assert not text.passed


@pytest.mark.parametrize("drafters", [0, 1])
def test_fewer_drafters_have_no_gain(tmp_path: Path, drafters: int) -> None:
    full = str(tiny_gguf(tmp_path / "only.gguf"))
    result = measured(tmp_path, drafters=[full] * drafters)
    assert len(result.runs) == 2 + 2 * drafters
    assert not result.gains


def test_a_server_that_refuses_leaves_no_process_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(scratch))
    tell(monkeypatch, fail="refuse", fail_with="trimmed.gguf", log=str(tmp_path / "log"))
    with pytest.raises(EngineError, match="wrong shape of output"):
        measured(tmp_path)
    assert len(logged(tmp_path / "log")) == 4
    assert not any(map(runs, logged(tmp_path / "log")))
    assert not list(scratch.iterdir())


def test_engine_arguments_and_room_for_the_longest_prompt_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Serve] = []
    command = type(LLAMA).command

    def watched(self: Any, program: Any, serve: Serve, **given: Any) -> list[str]:
        seen.append(serve)
        return command(self, program, serve, **given)

    monkeypatch.setattr(type(LLAMA), "command", watched)
    long = [*PROMPTS, prompt("é" * 2000)]
    plan = Plan(repeat=1, concurrency=3, max_new_tokens=10)
    measured(tmp_path, prompts=long, plan=plan, arguments=["-t", "2"], drafters=[])
    assert [serve.arguments for serve in seen] == [("-t", "2")] * 2
    assert seen[0].slots == 3
    assert 4000 + 10 <= seen[0].context < 6000
    assert seen[0].context % 256 == 0


def test_a_server_that_is_up_is_measured_and_left_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, ms=MS, accepts={"d.gguf": 1})
    with ending() as started:
        serve = Serve(Path("t.gguf"), Path("d.gguf"), "draft-eagle3", 2)
        server = launcher(tmp_path).start(serve, started)
        result = bench_served(PROMPTS, server.endpoint, plan=Plan(repeat=2))
        assert server.root.send("/health", timeout_s=10).status == 200
        run = result.runs[0].run
        assert (run.target, run.V, run.gamma) == (server.model, None, 2)
        assert run.block_efficiency is not None
        assert 1.0 < run.block_efficiency <= 2.0
        assert run.tokens_per_second == pytest.approx(100.0)
        assert result.facts["base_url"] == server.endpoint.url
        with pytest.raises(ServerError, match=f"serves {server.model}, not 'other'"):
            bench_served(PROMPTS, server.endpoint, plan=Plan(), model="other")
        with pytest.raises(ServerError, match="lists no models"):
            bench_served(PROMPTS, replace(server.endpoint, prefix="/v2"), plan=Plan())


def test_what_a_server_is_must_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ending() as started:
        server = launcher(tmp_path).start(Serve(Path("t.gguf")), started)
        monkeypatch.setattr(module, "_model_at", lambda *_: (server.model, "somebody"))
        with pytest.raises(EngineError, match=r"does not say that it is llama\.cpp or vllm"):
            bench_served(PROMPTS, server.endpoint, plan=Plan())
        result = bench_served(PROMPTS, server.endpoint, plan=Plan(repeat=1), engine=LLAMA)
        assert result.engine == "llama.cpp"


def test_nobody_at_the_address_is_said() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(EnvironmentFailure, match=f"no server at {url}: Connection refused"):
        bench_served(PROMPTS, Endpoint.parse(url), plan=Plan())


def test_prompts_are_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no prompt"):
        measured(tmp_path, prompts=[])
    talk = Prompt("t", ({"role": "system", "content": "s"}, {"role": "user", "content": "u"}))
    with pytest.raises(CalibrationError, match="prompt t is a conversation"):
        measured(tmp_path, prompts=[talk], plan=Plan(raw=True))
    for gammas in ([], [0], [2, -1]):
        with pytest.raises(ServerError, match="draft lengths must be 1 or more"):
            measured(tmp_path, gammas=gammas)


@pytest.mark.parametrize(
    "given", [{"repeat": 0}, {"max_new_tokens": 1}, {"concurrency": 0}, {"concurrency": 999}]
)
def test_plans_are_checked(given: dict[str, int]) -> None:
    with pytest.raises(ServerError, match=str(next(iter(given.values())))):
        Plan(**given)
