"""Model files from PyPI packages, with a script in pip's place."""

from __future__ import annotations

import stat
import sys
import zipfile
from pathlib import Path

import pytest

from vocabtrim.core.errors import EnvironmentFailure
from vocabtrim.core.manifest import file_hash
from vocabtrim.tensors.built_in import GEMMA, SMOLLM2
from vocabtrim.tensors.published import Part, Published, digest


class Pip:
    """A script that copies wheels to where pip was asked to download them.

    Args:
        directory: An empty directory.
    """

    def __init__(self, directory: Path) -> None:
        self.wheels = directory / "index"
        self.wheels.mkdir()
        self.script = directory / "python"
        # pip is called as: -m pip download --no-deps --dest DIRECTORY REQUIREMENT...
        self.write(f'cp "{self.wheels}"/*.whl "$6"/')

    def write(self, line: str) -> None:
        self.script.write_text(f"#!/bin/sh\n{line}\n")
        self.script.chmod(self.script.stat().st_mode | stat.S_IXUSR)

    def wheel(self, name: str, members: dict[str, bytes]) -> Part:
        """Publish a package."""
        path = self.wheels / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return Part(name, "1.0", file_hash(path), tuple(members))


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "cache"))
    found = Pip(tmp_path)
    monkeypatch.setattr(sys, "executable", str(found.script))
    return found


def published(pip: Pip, tmp_path: Path) -> Published:
    """Publish a file in two parts with a licence."""
    whole = tmp_path / "whole"
    whole.write_bytes(b"GGUF one and two")
    return Published(
        "model",
        "model.gguf",
        file_hash(whole),
        weights=(
            pip.wheel("part-one", {"one/data/m.part00": b"GGUF one"}),
            pip.wheel("part-two", {"two/data/m.part01": b" and two"}),
        ),
        notices=(pip.wheel("terms", {"terms/NOTICE.md": b"be kind", "terms/TERMS.html": b"<p>"}),),
    )


def leftovers(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


def test_parts_are_joined_and_notices_lie_beside(pip: Pip, tmp_path: Path) -> None:
    model = published(pip, tmp_path)
    assert model.locate().read_bytes() == b"GGUF one and two"
    assert [notice.read_bytes() for notice in model.notice_files()] == [b"be kind", b"<p>"]
    pip.write("exit 1")  # a second time nothing is fetched
    assert model.locate().name == "model.gguf"


def test_a_machine_that_cannot_fetch_is_told_what_to_do(pip: Pip, tmp_path: Path) -> None:
    model = published(pip, tmp_path)
    pip.write("echo 'ERROR: no route to PyPI' >&2; exit 1")
    with pytest.raises(EnvironmentFailure, match="no route to PyPI") as caught:
        model.locate()
    assert "pip download --no-deps part-one==1.0 part-two==1.0 terms==1.0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []


def test_a_wheel_that_is_not_the_published_one_is_refused(pip: Pip, tmp_path: Path) -> None:
    model = published(pip, tmp_path)
    pip.wheel("part-two", {"two/data/m.part01": b" and more"})
    with pytest.raises(EnvironmentFailure, match=r"part-two==1\.0 is not the published package"):
        model.locate()
    assert leftovers(tmp_path) == []


def test_a_file_that_is_not_the_published_one_is_refused(pip: Pip, tmp_path: Path) -> None:
    model = published(pip, tmp_path)
    other = Published("m", "model.gguf", "sha256:" + "0" * 64, model.weights, model.notices)
    with pytest.raises(EnvironmentFailure, match=r"model\.gguf is not the published file"):
        other.locate()
    assert leftovers(tmp_path) == []


def test_an_installed_package_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/m.gguf").write_bytes(b"GGUF here")
    info = tmp_path / "pkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    part = Part("pkg", "1.0", "sha256:1", ("pkg/m.gguf",))
    right = Published("m", "m.gguf", file_hash(tmp_path / "pkg/m.gguf"), (part,))
    assert right.locate() == tmp_path / "pkg/m.gguf"
    # another version's file is not taken: it would be fetched
    with pytest.raises(FileNotFoundError):
        Published("m", "m.gguf", "sha256:" + "0" * 64, (part,)).locate()


def test_what_is_built_in_is_pinned() -> None:
    for model in (SMOLLM2, GEMMA):
        assert len(model.short_hash) == 8
        for part in (*model.weights, *model.notices):
            assert len(part.wheel_hash) == len("sha256:") + 64
        assert all(len(part.members) == 1 for part in model.weights)
    assert [part.members[0][-2:] for part in GEMMA.weights] == ["00", "01", "02", "03"]
    assert digest("a") != digest("b")
