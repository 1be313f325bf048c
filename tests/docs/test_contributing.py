"""The worked example of CONTRIBUTING.md, carried out in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.vocab_file import read_vocab

ROOT = Path(__file__).parents[2]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
RULE = "src/vocabtrim/rules/document_count.py"
COUNTS = TokenCounts(np.arange(5000), np.minimum(np.arange(5000), 40), 40, "sha256:a tokenizer")


def titled_blocks(text: str) -> dict[str, str]:
    """{title: content} of the fenced blocks that have one."""
    return dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))


def commands(text: str, starting_with: str) -> list[str]:
    """The lines after `$ ` of the console block whose first command is given."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if block.startswith(f"$ {starting_with}"):
            return [line.removeprefix("$ ") for line in block.splitlines()]
    raise AssertionError(f"no console block starts with {starting_with}")


def run(command: str, where: Path, path: Path) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(path),
    }
    done = subprocess.run(
        command.split(), cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write_example_counts(directory: Path) -> None:
    write_counts(directory / "counts.safetensors", COUNTS, inputs={}, options={}, facts={})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the example touches, with the example's files in it."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.gguf")
    for name in ("src", "tests", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    blocks = titled_blocks(CONTRIBUTING.read_text(encoding="utf-8"))
    assert set(blocks) == {RULE, "tests/unit/rules/test_document_count.py"}
    for name, content in blocks.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    write_example_counts(tmp_path)
    return tmp_path


def test_the_commands_of_the_worked_example_do_what_it_says(checkout: Path) -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    pytest_line, rules_line, select_line, mutants_line = commands(text, "python -m pytest")
    assert " passed" in run(pytest_line, checkout, checkout / "src")
    listed = " ".join(run(rules_line, checkout, checkout / "src").split())
    assert "document_count:k=INT,exact=False The K ids that occur in the most documents." in listed
    run(select_line, checkout, checkout / "src")
    vocab, _ = read_vocab(checkout / "vocab.safetensors")
    # ids 40 to 4,999 are in all 40 documents: of those, the most frequent
    np.testing.assert_array_equal(vocab.ids, np.arange(5000 - 4096, 5000))
    assert "survivors: 0 without a reason, 0 with one" in run(
        mutants_line, checkout, checkout / "src"
    )


def test_the_example_is_written_as_the_house_asks(checkout: Path) -> None:
    files = f"{RULE} tests/unit/rules/test_document_count.py"
    run(f"python -m ruff check {files}", checkout, checkout)
    run(f"python -m ruff format --check {files}", checkout, checkout)
    run(f"python -m mypy {RULE}", checkout, checkout / "src")


def test_the_same_file_works_from_another_package(tmp_path: Path) -> None:
    rule = titled_blocks(CONTRIBUTING.read_text(encoding="utf-8"))[RULE]
    declared = titled_blocks((ROOT / "docs/adding/rule.md").read_text(encoding="utf-8"))
    group, entry = declared["pyproject.toml"].strip().splitlines()
    assert group == '[project.entry-points."vocabtrim.rules"]'
    package = tmp_path / "your_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "document_count.py").write_text(rule, encoding="utf-8")
    # what pip writes for such a package
    info = tmp_path / "your_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: your-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vocabtrim.rules]\n{entry.replace(chr(34), '')}\n")
    write_example_counts(tmp_path)
    command = "vocabtrim select counts.safetensors --rule document_count:k=100 -o vocab.safetensors"
    run(command, tmp_path, tmp_path)
    assert read_vocab(tmp_path / "vocab.safetensors")[0].size == 128
