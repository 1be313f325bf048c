"""Cache entries appear whole, once, also where several processes want them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vocabtrim.core.errors import CheckpointError, EnvironmentFailure
from vocabtrim.tensors.cache import built_once, cache_directory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("VOCABTRIM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == Path("/home/someone/.cache/vocabtrim")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/xdg")
    assert cache_directory() == Path("/var/xdg/vocabtrim")
    monkeypatch.setenv("VOCABTRIM_CACHE", "~/own")
    assert cache_directory() == Path("/home/someone/own")


def test_an_entry_is_built_once(cache: Path) -> None:
    built: list[Path] = []

    def build(directory: Path) -> None:
        built.append(directory)
        (directory / "file").write_text("x")

    assert built_once("entry", build) == built_once("entry", build) == cache / "entry"
    assert (cache / "entry/file").read_text() == "x"
    assert len(built) == 1
    assert built[0] != cache / "entry"


def test_a_build_that_fails_leaves_no_entry_and_can_be_repeated(cache: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise CheckpointError("stop")

    with pytest.raises(CheckpointError, match="stop"):
        built_once("entry", fail)
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []
    built_once("entry", lambda directory: (directory / "whole").touch())
    assert (cache / "entry/whole").exists()


def test_a_cache_that_cannot_be_made_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFailure, match="set VOCABTRIM_CACHE to a directory that can"):
        built_once("entry", lambda _: None)


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from vocabtrim.tensors.cache import built_once

def build(directory):
    with Path(sys.argv[1]).open("a") as log:
        log.write("built\\n")
    time.sleep(0.3)
    (directory / "file").write_text("whole")

assert (built_once("entry", build) / "file").read_text() == "whole"
"""


def test_of_several_processes_one_builds_and_the_others_wait(cache: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD_SLOWLY, str(tmp_path / "log")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"
