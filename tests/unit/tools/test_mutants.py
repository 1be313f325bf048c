"""The mutation tool against a package of one function, tested badly and well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutants import SUBJECTS, Allowed, MutationError, Subject, mapped_files, read_allowed

ROOT = Path(__file__).parents[3]

CLAMP = '''
"""A docstring that is left alone."""
from __future__ import annotations


def clamp(value: int, high: int) -> int:
    """Also left alone."""
    if value > high:
        return high
    return value
'''
STRONG = """
import pytest
from tiny.clamp import clamp


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (4, 4), (6, 5)])
def test_clamp(value, expected):
    assert clamp(value, 5) == expected
"""
WEAK = """
from tiny.clamp import clamp


def test_clamp():
    assert clamp(1, 5) == 1
"""
# `>` for `>=` cannot be told apart: at the boundary both branches give the same.
REASON = """
[[survivor]]
file = "src/tiny/clamp.py"
statement = "if value > high:"
kind = "boundary"
after = "value >= high"
reason = "at value == high both branches return the same number"
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    files = {
        "src/tiny/__init__.py": "",
        "src/tiny/clamp.py": CLAMP,
        "tests/test_strong.py": STRONG,
        "tests/test_weak.py": WEAK,
        "tests/test_elsewhere.py": "def test_nothing_of_it():\n    assert True\n",
        "tests/test_failing.py": "import tiny.clamp\n\n\ndef test_fails():\n    assert 0\n",
        "allowed.toml": REASON,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(root: Path, test: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.mutants", "--root", str(root), "--allowed"]
    command += [str(root / "allowed.toml"), "--subject", "src/tiny/clamp.py", f"tests/{test}"]
    return subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)


def test_good_tests_leave_only_the_survivor_that_has_a_reason(tiny: Path) -> None:
    done = run(tiny, "test_strong.py")
    assert "4 mutants, 3 noticed by tests/test_strong.py" in done.stdout
    assert "survivors: 0 without a reason, 1 with one; stale reasons: 0" in done.stdout
    assert done.returncode == 0
    assert (tiny / "src/tiny/clamp.py").read_text() == CLAMP


def test_weak_tests_are_told_what_they_miss(tiny: Path) -> None:
    done = run(tiny, "test_weak.py")
    assert done.returncode == 1
    assert "SURVIVED src/tiny/clamp.py:9 delete: return high  →  return None" in done.stdout
    assert "survivors: 1 without a reason, 1 with one" in done.stdout


def test_a_survivor_without_a_reason_fails_and_so_does_a_reason_without_survivor(
    tiny: Path,
) -> None:
    (tiny / "allowed.toml").write_text(REASON.replace("value >= high", "value >= low"))
    done = run(tiny, "test_strong.py")
    assert done.returncode == 1
    assert "SURVIVED src/tiny/clamp.py:8 boundary: value > high  →  value >= high" in done.stdout
    assert "STALE    src/tiny/clamp.py boundary: no such survivor: if value > high:" in done.stdout


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("test_elsewhere.py", "tests/test_elsewhere.py never import src/tiny/clamp.py"),
        ("test_failing.py", "tests/test_failing.py fail without any mutant"),
        ("test_missing.py", "tests/test_missing.py is missing"),
    ],
)
def test_tests_that_prove_nothing_are_an_error(tiny: Path, test: str, says: str) -> None:
    done = run(tiny, test)
    assert done.returncode == 2
    assert says in done.stderr


def test_an_endless_loop_counts_as_noticed(tiny: Path) -> None:
    (tiny / "src/tiny/clamp.py").write_text(
        "def clamp(value, high):\n    while value > high:\n        value = high\n    return value\n"
    )
    (tiny / "allowed.toml").unlink()
    # without `value = high`, and with either other condition, it never ends
    done = run(tiny, "test_strong.py", "--timeout", "1")
    assert "5 mutants, 5 noticed" in done.stdout
    assert done.returncode == 0


def test_an_entry_needs_a_reason_and_only_known_keys(tmp_path: Path) -> None:
    path = tmp_path / "allowed.toml"
    assert read_allowed(path) == []
    path.write_text(REASON)
    assert read_allowed(path) == [
        Allowed(
            "src/tiny/clamp.py",
            "if value > high:",
            "boundary",
            "value >= high",
            "at value == high both branches return the same number",
        )
    ]
    path.write_text(REASON.replace("at value == high both branches return the same number", "ok"))
    with pytest.raises(MutationError, match="has no reason"):
        read_allowed(path)
    path.write_text(REASON.replace("after =", "becomes ="))
    with pytest.raises(MutationError, match="becomes"):
        read_allowed(path)


def test_every_built_in_subject_has_its_files_and_tests() -> None:
    files = mapped_files(ROOT, SUBJECTS)
    assert "src/vocabtrim/core/vocab.py" in files
    assert "src/vocabtrim/rules/top_p.py" in files
    assert not any(file.endswith("__init__.py") for file in files)


def test_files_can_be_chosen_among_the_subjects(tiny: Path) -> None:
    subjects = [Subject("src/tiny/*.py", ("tests/test_{name}.py", "tests/test_weak.py"))]
    (tiny / "tests/test_clamp.py").write_text(STRONG)
    expected = {"src/tiny/clamp.py": ("tests/test_clamp.py", "tests/test_weak.py")}
    assert mapped_files(tiny, subjects) == expected
    assert mapped_files(tiny, subjects, ["src/tiny/clamp.py"]) == expected
    with pytest.raises(MutationError, match=r"src/tiny/other\.py belongs to no subject"):
        mapped_files(tiny, subjects, ["src/tiny/other.py"])
    with pytest.raises(MutationError, match="matches no file"):
        mapped_files(tiny, [Subject("src/none/*.py", ())])
