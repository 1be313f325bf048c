"""The worked example of docs/adding/source.md, carried out in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding" / "source.md").read_text(encoding="utf-8")
SOURCE = "src/vocabtrim/sources/endoftext.py"
TEST = "tests/unit/sources/test_endoftext.py"


def run(command: str, checkout: Path) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(checkout / "src"),
    }
    done = subprocess.run(
        command.split(), cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_worked_example_works(tmp_path: Path) -> None:
    unwanted = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.gguf")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    blocks = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.M | re.S))
    assert set(blocks) == {SOURCE, TEST, "pyproject.toml"}
    for name in (SOURCE, TEST):
        (tmp_path / name).write_text(blocks[name], encoding="utf-8")
    (console,) = re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)
    pytest_line, sources_line = (line.removeprefix("$ ") for line in console.splitlines())
    assert " passed" in run(pytest_line, tmp_path)
    line = "endoftext  text whose documents end with a line <|endoftext|>"
    assert line in run(sources_line, tmp_path).splitlines()
