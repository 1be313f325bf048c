"""The command as a whole: help, exit codes, and errors in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_help_names_the_verbs_in_the_order_of_the_work(vocabtrim: Command) -> None:
    outcome = vocabtrim("--help")
    assert outcome.code == 0
    places = [outcome.out.index(f"│ {verb} ") for verb in ("count", "select", "trim", "inspect")]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", ["count", "select", "trim", "inspect", "generate"])
def test_every_verb_has_help_with_an_example(vocabtrim: Command, verb: str) -> None:
    outcome = vocabtrim(verb, "--help")
    assert outcome.code == 0
    assert f"vocabtrim {verb}" in outcome.out.replace("\n", " ").split("Example", 1)[1]
    for option in ("--json", "--quiet", "--debug", "--force"):
        assert option in outcome.out


def test_help_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\n"
        "from vocabtrim.cli.main import run\n"
        "run(['--help'])\n"
        "loaded = {'torch', 'transformers', 'numpy', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr


def test_version(vocabtrim: Command) -> None:
    assert vocabtrim("--version").out.startswith("vocabtrim 0.")


def test_unknown_verbs_and_options_are_usage_errors(vocabtrim: Command) -> None:
    assert vocabtrim("cuont").code == 2
    outcome = vocabtrim("trim", "--no-such-option")
    assert outcome.code == 2
    assert "--no-such-option" in outcome.err


def test_a_bad_input_is_one_line_without_a_traceback(vocabtrim: Command, tmp_path: Path) -> None:
    outcome = vocabtrim("select", tmp_path / "none", "--top-k", 4, "-o", tmp_path / "v")
    assert outcome.code == 2
    assert outcome.err == f"error: {tmp_path / 'none'}: no such file\n"
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(vocabtrim: Command, tmp_path: Path) -> None:
    from vocabtrim.core.errors import ArtifactError

    with pytest.raises(ArtifactError):
        vocabtrim("select", tmp_path / "none", "--top-k", 4, "-o", tmp_path / "v", "--debug")


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "No space left"),
    ],
)
def test_what_the_user_and_the_machine_do_has_its_code(
    vocabtrim: Command, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, says: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("vocabtrim.pipeline.inspect.inspect", fail)
    outcome = vocabtrim("inspect", "demo")
    assert outcome.code == code
    assert says in outcome.err


def test_a_missing_package_names_its_extra_and_a_missing_module_of_ours_is_a_bug(
    vocabtrim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        def missing(*_: object, **__: object) -> None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        monkeypatch.setattr("vocabtrim.pipeline.inspect.inspect", missing)

    fail("torch")
    outcome = vocabtrim("inspect", "demo")
    assert outcome.code == 2
    assert "needs the package torch: run `pip install vocabtrim[torch]`" in outcome.err
    fail("vocabtrim.nonsense")
    with pytest.raises(ModuleNotFoundError):
        vocabtrim("inspect", "demo")
