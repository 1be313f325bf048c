"""A drafter's family is told by its content; what nobody knows is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import edit, tiny_eagle3, tiny_lm
from vocabtrim.core.errors import CheckpointError, PluginError
from vocabtrim.families.base import (
    FAMILIES,
    family_of,
    known_families,
    trimmed_architectures,
)
from vocabtrim.tensors.checkpoint import Checkpoint


def test_the_families_there_are() -> None:
    names = set(FAMILIES.names())
    assert {"eagle", "eagle3", "independent", "mtp"} <= names
    assert not {"base", "fused", "tiny"} & names


def test_the_name_of_the_directory_does_not_matter(tmp_path: Path) -> None:
    assert family_of(Checkpoint.open(tiny_eagle3(tmp_path / "plain-lm"))).name == "eagle3"
    assert family_of(Checkpoint.open(tiny_lm(tmp_path / "eagle3"))).name == "independent"


def test_an_unknown_drafter_is_refused_with_the_families_there_are(tmp_path: Path) -> None:
    directory = edit(tiny_eagle3(tmp_path / "d"), drop=["fc.weight"])
    unknown = Checkpoint.open(directory)
    assert known_families(unknown) == []
    with pytest.raises(CheckpointError, match="no drafter of a known family") as caught:
        family_of(unknown)
    assert all(name in str(caught.value) for name in ("eagle3", "independent", str(directory)))


def test_a_checkpoint_that_two_families_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafter = Checkpoint.open(tiny_lm(tmp_path / "d"))
    independent = FAMILIES.load("independent")
    monkeypatch.setattr(type(FAMILIES), "load_all", lambda _: {"a": independent, "b": independent})
    for to_decode in (False, True):
        with pytest.raises(CheckpointError, match="independent and independent at once: say with"):
            family_of(drafter, to_decode=to_decode)


def test_which_of_several_families_is_meant_can_be_said(tmp_path: Path) -> None:
    FAMILIES.load("mtp").tiny_checkpoint(tmp_path / "t", vocab_size=96, hidden=32, seed=1)
    drafter = Checkpoint.open(tmp_path / "t")
    assert [family.name for family in known_families(drafter)] == ["independent", "mtp"]
    for name in ("independent", "mtp"):
        assert family_of(drafter, name).name == name
    assert family_of(drafter, to_decode=True).name == "independent"
    with pytest.raises(CheckpointError, match="it is no drafter of the family eagle3"):
        family_of(drafter, "eagle3")
    with pytest.raises(PluginError, match="no drafter family is called 'x'"):
        family_of(drafter, "x")


@pytest.mark.parametrize(
    ("config", "full", "expected"),
    [
        ({"architectures": ["A", "B"]}, False, ["TrimmedA", "TrimmedB"]),
        ({"architectures": ["TrimmedA"]}, False, ["TrimmedA"]),
        ({"architectures": ["TrimmedA"]}, True, ["A"]),
        ({}, False, []),
        ({"architectures": None}, True, []),
    ],
)
def test_a_trimmed_class_has_a_name_that_nobody_registered(
    config: dict[str, object], full: bool, expected: list[str]
) -> None:
    assert trimmed_architectures(config, full=full) == expected
