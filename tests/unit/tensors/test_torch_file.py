"""Torch files are read as data, and only with torch."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.errors import ArtifactError, MissingExtra
from vocabtrim.tensors.torch_file import load_torch, torch_bytes

torch = pytest.importorskip("torch")


class Runs:
    """An object whose loading would run something."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def test_tensors_become_arrays_wherever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "any.pt"
    value = OrderedDict(a=torch.tensor([1, 2]), b=[torch.tensor(3), 4], c=[5], d="x")
    torch.save(value, path)
    loaded = load_torch(path)
    np.testing.assert_array_equal(loaded["a"], [1, 2])
    assert isinstance(loaded["b"][0], np.ndarray)
    assert (loaded["c"], loaded["d"]) == ([5], "x")
    torch.save(torch.zeros(2, dtype=torch.bfloat16), path)
    assert load_torch(path).dtype == np.float32


def test_nothing_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pt"
    torch.save(Runs(), path)
    with pytest.raises(ArtifactError, match="would run what it holds"):
        load_torch(path)
    assert capsys.readouterr().out == ""


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(torch_bytes([1, 2, 3])[:-40])
    with pytest.raises(ArtifactError, match=r"cut\.pt is not a whole \.pt file"):
        load_torch(path)


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(torch_bytes([1]))
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (lambda: load_torch(path), lambda: torch_bytes([1])):
        with pytest.raises(MissingExtra, match=r"pip install vocabtrim\[torch\]"):
            call()
