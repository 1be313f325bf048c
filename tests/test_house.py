"""What the house asks of every module, whoever writes the next one."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vocabtrim.core.registry import Registry

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "vocabtrim"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
SCRIPTS = [
    path
    for name in ("tools", "recipes", "benchmarks")
    for path in sorted((ROOT / name).rglob("*.py"))
]
TESTED_ELSEWHERE: dict[str, str] = {
    "__main__.py": "test_python_dash_m_is_the_command, below",
    "cli/options.py": "tests/cli/test_main.py: every verb shows them in its help",
}
"""Modules without a test file of their name, each with where it is tested."""
PLUG_IN_PACKAGES = ("families", "rules", "sources", "engines")
TORCH_FREE = ("core", "tensors", "tokens", "sources", "rules", "pipeline/select.py")
HEAVY = {"torch", "transformers", "tokenizers", "datasets", "pyarrow", "ray", "matplotlib"}


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Absolute dotted names that are imported anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_every_module_has_a_test_file_of_its_name(path: Path) -> None:
    within = path.relative_to(PACKAGE)
    mirror = within.with_name(f"test_{path.name}")
    # the command line is tested as a user meets it, from outside, in tests/cli
    places = [ROOT / "tests" / "unit" / mirror, ROOT / "tests" / mirror]
    known = within.as_posix() in TESTED_ELSEWHERE
    assert any(place.is_file() for place in places) != known, f"tests/unit/{mirror} is missing"


def test_every_unit_test_file_has_a_module_of_its_name() -> None:
    for test in (ROOT / "tests" / "unit").rglob("test_*.py"):
        within = test.relative_to(ROOT / "tests" / "unit")
        home = ROOT if within.parts[0] in ("tools", "recipes", "benchmarks") else PACKAGE
        assert (home / within.parent / within.name.removeprefix("test_")).is_file(), within


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=names(MODULES + SCRIPTS))
def test_every_module_says_what_it_owns(path: Path) -> None:
    prose = ast.get_docstring(tree_of(path))
    assert prose is not None
    assert 3 <= len(prose.splitlines()) <= 20


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=names(MODULES + SCRIPTS))
def test_modules_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [name for name in names(MODULES) if drawers & set(Path(name).with_suffix("").parts)]


def test_layers_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PLUG_IN_PACKAGES)
def test_plug_ins_do_not_lean_on_one_another(package: str) -> None:
    base = importlib.import_module(f"vocabtrim.{package}.base")
    (registry,) = (one for one in vars(base).values() if isinstance(one, Registry))
    plug_ins = {f"vocabtrim.{package}.{name}" for name in registry.names()}
    for path in (PACKAGE / package).glob("*.py"):
        for name in imports(tree_of(path)):
            inside = ".".join(name.split(".")[:3])
            assert inside not in plug_ins, f"{path.name} imports {name}"


def test_torch_stays_above() -> None:
    files = [PACKAGE / part for part in TORCH_FREE if part.endswith(".py")]
    files += [path for part in TORCH_FREE for path in (PACKAGE / part).rglob("*.py")]
    for path in files:
        found = {name.split(".")[0] for name in imports(tree_of(path))} & {"torch", "transformers"}
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def loaded_by(code: str) -> set[str]:
    """Top-level packages in memory after running `code` in a new interpreter."""
    report = "\nimport sys; print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_import_loads_no_heavy_package() -> None:
    assert not loaded_by("import vocabtrim") & (HEAVY | {"numpy"})


def test_no_help_loads_a_heavy_package() -> None:
    code = (
        "from vocabtrim.cli.main import app, run\n"
        "verbs = [command.name or command.callback.__name__\n"
        "         for command in app.registered_commands]\n"
        "assert verbs\n"
        "for arguments in [[], *([verb] for verb in verbs)]:\n"
        "    assert run([*arguments, '--help']) == 0, arguments\n"
    )
    assert not loaded_by(code) & HEAVY


def test_python_dash_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vocabtrim", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage: vocabtrim" in done.stdout
    assert not {line.split("|")[-1].strip() for line in done.stderr.splitlines()} & HEAVY
