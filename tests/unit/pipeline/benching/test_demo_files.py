from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vocabtrim.core.errors import EnvironmentFailure
from vocabtrim.pipeline.benching import demo_files
from vocabtrim.pipeline.gguf_converter import VARIABLE

CONVERTER = """
import sys
from pathlib import Path
words = sys.argv[1:]
if words[words.index("--outtype") + 1] == "bad":
    sys.exit("Error: no such type")
Path(words[words.index("--outfile") + 1]).write_text(" ".join(words[:3]))
with open({log!r}, "a") as stream:
    stream.write("run\\n")
"""


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script, log = tmp_path / "convert.py", tmp_path / "log"
    script.write_text(CONVERTER.format(log=str(log)))
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, f"{sys.executable} {script}")
    monkeypatch.setattr(demo_files, "demo_target", lambda: tmp_path / "demo")
    return log


def test_the_demo_is_widened_once(converter: Path, tmp_path: Path) -> None:
    path = demo_files.DEMO_FILES["demo-f32"]()
    assert path.read_text() == f"{tmp_path / 'demo'} --outtype f32"
    assert demo_files.widened_demo() == path
    assert converter.read_text() == "run\n"
    assert demo_files.widened_demo("bf16") != path


def test_a_converter_that_fails_is_said_and_leaves_nothing(converter: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"could not widen .*Error: no such type"):
        demo_files.widened_demo("bad")
    assert not [entry for entry in (converter.parent / "cache").iterdir() if entry.is_dir()]


def test_a_missing_converter_is_said(converter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/convert")
    with pytest.raises(EnvironmentFailure, match="/nowhere/convert cannot be run"):
        demo_files.widened_demo()
