"""OUT.part: the tally comes back as it was, for the same command and for no other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.counts import SpecialIds
from vocabtrim.core.errors import ArtifactError, OutputExists
from vocabtrim.core.manifest import Manifest, read_manifest, write_artifact
from vocabtrim.pipeline.counting.checkpoint import KIND, Checkpoint, Request, part_of
from vocabtrim.pipeline.counting.inputs import Place
from vocabtrim.pipeline.counting.tally import LeftOut, Tally
from vocabtrim.sources.base import Skipped
from vocabtrim.tokens.counting import TokenizerFacts
from vocabtrim.tokens.id_counts import RunningCounts, SparseBatch, count_ids

FACTS = TokenizerFacts("sha256:abc", 10, SpecialIds(), (), "tokenizers 1", "")
REQUEST = Request(
    {"role": "all", "field": None, "domains": {"x": "*.py"}}, {"a": "5 bytes", "b": "7 bytes"}
)


def tally() -> Tally:
    sums = RunningCounts(10, ["empty"])
    for group, ids in ((frozenset({"x"}), [1, 1, 2]), (frozenset[str](), [3])):
        flat = np.array(ids, dtype=np.int64)
        counts = count_ids(flat, np.array([flat.size], dtype=np.int64), 10)
        sums.add(SparseBatch({group: counts}))
    return Tally(
        sums,
        Place(1, 5, 2),
        empty=3,
        warnings=Counter({"odd: \N{SNOWMAN}": 2}),
        left_out={"no JSON": LeftOut(9, [("a", 1), ("b", 4)])},
        file="b",
        usable=0,
        unusable=Skipped("b", 4, "no JSON"),
    )


def kept(output: Path, request: Request = REQUEST) -> Checkpoint:
    checkpoint = Checkpoint(output, request)
    assert checkpoint.save(tally(), FACTS, "they differ")
    return checkpoint


def test_a_tally_comes_back_as_it_was(tmp_path: Path) -> None:
    kept(tmp_path / "out")
    begun = Checkpoint(tmp_path / "out", REQUEST).begun()
    assert begun is not None
    assert (begun.tokenizer, begun.backend, begun.mismatch) == (
        "sha256:abc",
        "tokenizers 1",
        "they differ",
    )
    expected, found = tally(), begun.tally
    assert found.sums.total("t", SpecialIds()) == expected.sums.total("t", SpecialIds())
    assert replace(found, sums=expected.sums) == expected
    # and it can be added to
    found.sums.counts[""][0] += 1


def test_nothing_is_begun_where_no_part_is(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "out", REQUEST).begun() is None


@pytest.mark.parametrize(
    ("options", "files", "says"),
    [
        ({"role": "user"}, {}, "it was begun with role all, not user"),
        ({"field": "text"}, {}, "it was begun with field none, not text"),
        ({"domains": {}}, {}, r"it was begun with domains x=\*\.py, not none"),
        ({}, {"a": "6 bytes"}, r"a has changed since it was begun \(5 bytes, then 6 bytes\)"),
        ({}, {"c": "1 byte"}, "c was not among its files"),
    ],
)
def test_another_command_does_not_continue(
    tmp_path: Path, options: dict[str, object], files: dict[str, str], says: str
) -> None:
    kept(tmp_path / "out")
    other = Request({**REQUEST.options, **options}, {**REQUEST.files, **files})
    with pytest.raises(OutputExists, match=says + ".*give --restart to begin anew"):
        Checkpoint(tmp_path / "out", other).begun()
    assert part_of(tmp_path / "out").exists()


def test_a_file_that_is_missing_is_another_command(tmp_path: Path) -> None:
    kept(tmp_path / "out")
    with pytest.raises(OutputExists, match="b was among its files and is not among these"):
        Checkpoint(tmp_path / "out", replace(REQUEST, files={"a": "5 bytes"})).begun()


def test_restart_forgets_the_part_of_any_command(tmp_path: Path) -> None:
    kept(tmp_path / "out")
    assert Checkpoint(tmp_path / "out", Request({}, {})).begun(restart=True) is None
    assert not part_of(tmp_path / "out").exists()


def test_what_is_no_part_is_left_alone(tmp_path: Path) -> None:
    path = part_of(tmp_path / "out")
    for content in (b"mine", b""):
        path.write_bytes(content)
        for restart in (False, True):
            with pytest.raises(ArtifactError, match=r"out\.part is in the way"):
                Checkpoint(tmp_path / "out", REQUEST).begun(restart=restart)
        assert path.read_bytes() == content
    write_artifact(path, {"counts": np.zeros(3)}, Manifest("counts", 3, "t"), force=True)
    with pytest.raises(ArtifactError, match=r"is in the way.*it holds counts"):
        Checkpoint(tmp_path / "out", REQUEST).begun()


def test_a_part_that_lacks_something_is_damaged(tmp_path: Path) -> None:
    checkpoint = kept(tmp_path / "out")
    manifest = read_manifest(checkpoint.path)
    write_artifact(checkpoint.path, {"counts.": np.zeros(10, dtype=np.int64)}, manifest, force=True)
    with pytest.raises(ArtifactError, match="or a damaged one"):
        Checkpoint(tmp_path / "out", REQUEST).begun()
    assert manifest.kind == KIND


def test_it_is_written_only_so_often(tmp_path: Path) -> None:
    now = [0.0]
    checkpoint = Checkpoint(tmp_path / "out", REQUEST, clock=lambda: now[0])
    written = []
    for second in (1.0, 1.9, 2.0, 3.9, 4.0):
        now[0] = second
        checkpoint.path.unlink(missing_ok=True)
        checkpoint.save_if_due(tally(), FACTS, "")
        written.append(checkpoint.path.exists())
    assert written == [False, False, True, False, True]


def test_what_cannot_be_continued_is_not_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "out", REQUEST, keep=False)
    assert not checkpoint.save(tally(), FACTS, "")
    nothing_yet = Checkpoint(tmp_path / "out", REQUEST)
    assert not nothing_yet.save(Tally(RunningCounts(10)), FACTS, "")
    assert not checkpoint.path.exists()


def test_removing(tmp_path: Path) -> None:
    checkpoint = kept(tmp_path / "out")
    checkpoint.remove()
    checkpoint.remove()
    assert not checkpoint.path.exists()
