"""Registry: the file name is the key, and a broken plug-in is not an unknown one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vocabtrim.core.errors import PluginError
from vocabtrim.core.registry import Registry


@pytest.fixture
def seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    package = tmp_path / "someseam"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("")
    (package / "_private.py").write_text("")
    (package / "good.py").write_text("PLUGIN = 'good one'\n")
    (package / "also.py").write_text("PLUGIN = 'also one'\n")
    (package / "broken.py").write_text("import a_module_that_is_not_there\nPLUGIN = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("someseam", "thing")
    for name in [name for name in sys.modules if name.startswith("someseam")]:
        del sys.modules[name]


def entry_point(directory: Path, name: str, module: str) -> None:
    info = directory / f"thirdparty_{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: thirdparty-{name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[someseam]\n{name} = {module}\n")


def test_names_are_file_names_sorted_without_base(seam: Registry) -> None:
    assert seam.names() == ["also", "broken", "good"]


def test_modules_beside_the_plug_ins_are_none(seam: Registry) -> None:
    beside = Registry("someseam", "thing", beside=frozenset({"base", "also"}))
    assert beside.names() == ["broken", "good"]
    with pytest.raises(PluginError, match="no thing is called 'also'"):
        beside.load("also")


def test_listing_imports_no_plugin(seam: Registry) -> None:
    seam.names()
    assert "someseam.good" not in sys.modules


def test_load_gives_the_plugin(seam: Registry) -> None:
    assert seam.load("good") == "good one"


def test_an_unknown_name_lists_the_known(seam: Registry) -> None:
    with pytest.raises(PluginError, match="no thing is called 'goood'; there are also, broken"):
        seam.load("goood")


def test_an_import_error_keeps_its_cause(seam: Registry) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        seam.load("broken")
    with pytest.raises(ModuleNotFoundError):
        seam.load_all()


def test_third_parties_come_by_entry_point(seam: Registry, tmp_path: Path) -> None:
    (tmp_path / "foreignmodule.py").write_text("PLUGIN = 'foreign'\n")
    entry_point(tmp_path, "foreign", "foreignmodule")
    assert "foreign" in seam.names()
    assert seam.load("foreign") == "foreign"


def test_a_name_that_is_taken_is_refused(seam: Registry, tmp_path: Path) -> None:
    entry_point(tmp_path, "good", "foreignmodule")
    with pytest.raises(PluginError, match="'good' is registered twice under someseam"):
        seam.names()
