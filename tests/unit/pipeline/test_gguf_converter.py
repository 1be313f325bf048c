"""Running a converter: how it is found, what it is given, how it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.clean_drafters import specforge, target
from tests.tiny import in_bfloat16
from vocabtrim.core.errors import CheckpointError, EnvironmentFailure
from vocabtrim.pipeline.gguf_converter import (
    SCRIPT,
    VARIABLE,
    converter_command,
    ready_converter,
    run_converter,
)


@pytest.fixture(autouse=True)
def _no_converter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def script(path: Path, body: str) -> Path:
    path.write_text(f"import sys\n{body}\n")
    return path


def test_it_is_named_or_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFailure, match="name it with --converter"):
        converter_command(None)
    place = script(tmp_path / "my converter.py", "")
    assert converter_command(str(place)) == [sys.executable, str(place)]
    assert converter_command("python3 x.py --flag") == ["python3", "x.py", "--flag"]
    monkeypatch.setenv(VARIABLE, str(place))
    assert converter_command(None) == [sys.executable, str(place)]
    on_path = script(tmp_path / SCRIPT, "")
    on_path.chmod(0o755)
    monkeypatch.delenv(VARIABLE)
    assert converter_command(None) == [sys.executable, str(on_path)]


@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_values_keep_their_type(tmp_path: Path, kind: str) -> None:
    drafter = specforge(tmp_path / "d")
    if kind == "bf16":
        in_bfloat16(drafter)
    verifier = target(tmp_path / "t")
    echo = script(
        tmp_path / "c.py",
        "open(sys.argv[sys.argv.index('--outfile') + 1], 'w').write(' '.join(sys.argv[1:]))",
    )
    run_converter(str(echo), drafter, verifier, tmp_path / "out")
    words = (tmp_path / "out").read_text().split()
    assert words[0] == str(drafter)
    assert words[words.index("--outtype") + 1] == kind
    assert words[words.index("--target-model-dir") + 1] == str(verifier)


def test_its_last_line_says_why_it_refused(tmp_path: Path) -> None:
    drafter = specforge(tmp_path / "d")
    refuses = script(tmp_path / "c.py", "raise ValueError('d2t contains duplicate target ids')")
    with pytest.raises(CheckpointError, match=r"refuses it .*duplicate target ids") as caught:
        run_converter(str(refuses), drafter, tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_package_that_it_lacks_is_the_machines_fault(tmp_path: Path) -> None:
    drafter = specforge(tmp_path / "d")
    lacks = script(tmp_path / "c.py", "import no_such_package")
    with pytest.raises(EnvironmentFailure, match=r"lacks a package .*no_such_package"):
        run_converter(str(lacks), drafter, tmp_path, tmp_path / "out")
    with pytest.raises(EnvironmentFailure, match="cannot be run"):
        run_converter("no-such-program x", drafter, tmp_path, tmp_path / "out")
    with pytest.raises(EnvironmentFailure, match=r"converter nosuch\.py does not exist"):
        run_converter("python3 nosuch.py", drafter, tmp_path, tmp_path / "out")


def test_it_is_known_beforehand_whether_it_is_there(tmp_path: Path) -> None:
    place = script(tmp_path / "c.py", "")
    assert ready_converter(str(place)) == [sys.executable, str(place)]
    assert ready_converter(f"{sys.executable} {place} --x")[-1] == "--x"
    with pytest.raises(EnvironmentFailure, match=r"converter /no/such\.py does not exist"):
        ready_converter("/no/such.py")
    with pytest.raises(EnvironmentFailure, match="no-such-program cannot be run"):
        ready_converter("no-such-program x")
    with pytest.raises(EnvironmentFailure, match="name it with --converter"):
        ready_converter(None)
