"""Artifacts: equal inputs give equal bytes, and a failure leaves nothing behind."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.errors import ArtifactError, EnvironmentFailure, OutputExists
from vocabtrim.core.manifest import (
    DIRECTORY_MANIFEST,
    Manifest,
    atomic_directory,
    atomic_file,
    file_hash,
    read_artifact,
    read_manifest,
    refuse_existing,
    write_artifact,
)

MANIFEST = Manifest("counts", 7, "sha256:t", {"a.txt": "sha256:1"}, {"role": "user"}, {"n": 3})


def test_an_artifact_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"counts": np.arange(7), "flags": np.array([True, False])}
    write_artifact(path, tensors, MANIFEST)
    back, manifest = read_artifact(path, "counts")
    assert manifest == MANIFEST == read_manifest(path)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)
        assert back[name].dtype == tensor.dtype


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_artifact(tmp_path / name, {"x": np.arange(3)[::-1]}, MANIFEST)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert file_hash(tmp_path / "one") == file_hash(tmp_path / "two")


def test_tensors_need_not_be_contiguous(tmp_path: Path) -> None:
    write_artifact(tmp_path / "x", {"x": np.arange(10)[::2]}, MANIFEST)
    np.testing.assert_array_equal(read_artifact(tmp_path / "x", "counts")[0]["x"], [0, 2, 4, 6, 8])


def test_another_kind_names_both(tmp_path: Path) -> None:
    write_artifact(tmp_path / "x", {"x": np.arange(3)}, MANIFEST)
    with pytest.raises(ArtifactError, match="holds counts, but draft vocabulary is needed"):
        read_artifact(tmp_path / "x", "draft vocabulary")


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        read_manifest(tmp_path / "missing")
    with pytest.raises(ArtifactError, match="is a directory, and a file that vocabtrim wrote"):
        read_manifest(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ArtifactError, match="not a readable safetensors"):
        read_manifest(tmp_path / "text")
    from safetensors.numpy import save_file

    save_file({"x": np.arange(3)}, tmp_path / "foreign")
    with pytest.raises(ArtifactError, match="not written by vocabtrim"):
        read_manifest(tmp_path / "foreign")
    for damaged in ("no json", "{}", '{"kind": 3}', "[]"):
        save_file({"x": np.arange(3)}, tmp_path / "damaged", metadata={"vocabtrim": damaged})
        with pytest.raises(ArtifactError, match="metadata is damaged"):
            read_manifest(tmp_path / "damaged")


def test_a_truncated_artifact_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_artifact(path, {"x": np.arange(100)}, MANIFEST)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match="not a readable safetensors"):
        read_artifact(path, "counts")


def test_outputs_are_not_replaced_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(OutputExists, match="give --force"):
        write_artifact(path, {"x": np.arange(3)}, MANIFEST)
    assert path.read_text() == "old"
    write_artifact(path, {"x": np.arange(3)}, MANIFEST, force=True)
    assert read_manifest(path) == MANIFEST


def test_a_dangling_link_counts_as_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExists):
        refuse_existing(tmp_path / "link", force=False)


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="midway"), atomic_file(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError("midway")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_directory_and_keeps_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="midway"), atomic_directory(tmp_path / "d") as temporary:
        (temporary / "f").write_text("half")
        raise RuntimeError("midway")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_ours_is_replaced_with_force(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_directory(tmp_path / "d", force=True) as temporary:
            (temporary / DIRECTORY_MANIFEST).write_text(text)
            if text == "one":
                (temporary / "stale").write_text("old")
    assert (tmp_path / "d" / DIRECTORY_MANIFEST).read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert not (tmp_path / "d" / "stale").exists()
    with pytest.raises(OutputExists), atomic_directory(tmp_path / "d"):
        pass


def test_force_spares_a_directory_that_is_not_ours(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "diary.txt").write_text("dear")
    with pytest.raises(OutputExists, match="does not replace it either"):
        refuse_existing(home, force=True)
    with pytest.raises(OutputExists), atomic_directory(home, force=True):
        pass
    assert (home / "diary.txt").read_text() == "dear"


def test_a_file_is_not_written_over_a_directory_nor_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutputExists, match="a file is to be written"):
        write_artifact(tmp_path / "empty", {"x": np.arange(3)}, MANIFEST, force=True)
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputExists, match="a directory is to be written"),
        atomic_directory(tmp_path / "file", force=True),
    ):
        pass


def test_outputs_have_the_permissions_that_open_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_artifact(tmp_path / "x", {"x": np.arange(3)}, MANIFEST)
        with atomic_directory(tmp_path / "d"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_the_machines_fault(tmp_path: Path, fault: int) -> None:
    with (
        pytest.raises(EnvironmentFailure, match="no room left") as caught,
        atomic_file(tmp_path / "x"),
    ):
        raise OSError(fault, os.strerror(fault))
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((EnvironmentFailure, OSError), match="file"):
        write_artifact(tmp_path / "file" / "x", {"x": np.arange(3)}, MANIFEST)


def test_missing_parents_are_made(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a" / "b" / "x", {"x": np.arange(3)}, MANIFEST)
    assert read_manifest(tmp_path / "a" / "b" / "x") == MANIFEST
