from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fake_engine import installed
from tests.serving import tell
from vocabtrim.engines.serving.base import EngineError, Program, Serve
from vocabtrim.engines.serving.llama_cpp import METHODS, PLUGIN

PROGRAM = Program(("llama-server",), "1", frozenset({"--cache-ram"}))


def test_it_is_found_by_name_and_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = installed(tmp_path)
    found = PLUGIN.find(path, list(METHODS.values()))
    assert found.words == (str(path),)
    assert found.version == "4711 (a fake)"
    assert found.options is not None
    assert found.options >= {"--cache-ram", "--model"}
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert PLUGIN.find(None, []).words == (str(path),)


def test_a_missing_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="not on the PATH: install llama"):
        PLUGIN.find(None, [])
    with pytest.raises(EngineError, match=r"cannot be run .No such file"):
        PLUGIN.find(tmp_path / "nothing", [])
    (tmp_path / "text").write_text("no program")
    with pytest.raises(EngineError, match=r"cannot be run .Permission denied"):
        PLUGIN.find(tmp_path / "text", [])


def test_another_program_and_an_old_one_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match="is no llama-server"):
        PLUGIN.find(Path("/bin/echo"), [])
    tell(monkeypatch, old=True)
    path = installed(tmp_path)
    assert PLUGIN.find(path, []).version == "4711 (a fake)"
    with pytest.raises(EngineError, match=r"version 4711 .a fake.. is too old to draft by draft-e"):
        PLUGIN.find(path, ["draft-eagle3"])


def test_a_server_without_a_drafter_is_told_nothing_of_drafting() -> None:
    serve = Serve(Path("t.gguf"), slots=4, context=512, arguments=("-t", "2"))
    words = PLUGIN.command(PROGRAM, serve, port=8123, alias="me")
    text = " ".join(words)
    assert text.startswith("llama-server -m t.gguf --host 127.0.0.1 --port 8123 --alias me")
    assert "-np 4" in text
    assert "-c 2048" in text
    assert "--cache-ram 0" in text
    assert not re.search(r"spec|-md", text)
    assert words[-2:] == ["-t", "2"]


def test_a_drafter_is_given_with_its_way_and_length() -> None:
    serve = Serve(Path("t.gguf"), Path("d.gguf"), "draft-eagle3", 3)
    text = " ".join(PLUGIN.command(Program(("x",), "1", frozenset()), serve, port=1, alias="a"))
    assert "-md d.gguf --spec-type draft-eagle3 --spec-draft-n-max 3" in text
    assert "--cache-ram" not in text


def test_what_we_set_cannot_be_set() -> None:
    serve = Serve(Path("t.gguf"), arguments=("--spec-draft-n-max", "9"))
    with pytest.raises(EngineError, match="--spec-draft-n-max is set by the measurement"):
        PLUGIN.command(PROGRAM, serve, port=1, alias="a")


def test_the_time_of_decoding_is_in_the_answer() -> None:
    assert PLUGIN.decode_seconds({"timings": {"predicted_ms": 1500}}) == 1.5
    for document in ({}, {"timings": None}, {"timings": {"predicted_ms": "x"}}):
        assert PLUGIN.decode_seconds(document) is None
