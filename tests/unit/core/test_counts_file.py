"""Count files: what was written comes back, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.counts_file import KIND, read_counts, write_counts
from vocabtrim.core.errors import ArtifactError, OutputExists, TokenizerMismatch
from vocabtrim.core.manifest import Manifest, read_artifact, write_artifact

SPECIAL = SpecialIds(eos=(0,), template=(0, 2), added=(0, 1, 2))


def counts_of(numbers: list[int], domains: dict[str, list[int]] | None = None) -> TokenCounts:
    vector = np.array(numbers, dtype=np.int64)
    parts = {name: counts_of(part) for name, part in (domains or {}).items()}
    return TokenCounts(vector, np.minimum(vector, 3), 3, "sha256:t", SPECIAL, parts)


def write(path: Path, counts: TokenCounts, **more: Any) -> None:
    write_counts(path, counts, inputs={"a": "sha256:a"}, options={"role": "all"}, facts={}, **more)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 2**60), min_size=3, max_size=9),
    st.dictionaries(st.text(min_size=1).filter(lambda t: t.isprintable()), st.booleans()),
)
def test_counts_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], names: dict[str, bool]
) -> None:
    path = tmp_path_factory.mktemp("counts") / "c.safetensors"
    domains = {name: numbers if full else [0] * len(numbers) for name, full in names.items()}
    counts = counts_of(numbers, domains)
    write(path, counts)
    back, manifest = read_counts(path, tokenizer="sha256:t")
    assert back == counts
    assert set(back.domains) == set(names)
    assert (manifest.inputs, manifest.options) == ({"a": "sha256:a"}, {"role": "all"})


def test_tensors_have_the_names_of_the_format(tmp_path: Path) -> None:
    write(tmp_path / "c", counts_of([5, 0, 2], {"code.py": [1, 0, 2]}))
    tensors, manifest = read_artifact(tmp_path / "c", "counts")
    assert sorted(tensors) == ["counts", "counts.code.py", "documents", "documents.code.py"]
    assert all(tensor.dtype == np.int64 and tensor.shape == (3,) for tensor in tensors.values())
    assert tensors["counts.code.py"].tolist() == [1, 0, 2]
    assert manifest.facts["n_documents"] == 3
    assert manifest.facts["special_ids"] == {"eos": [0], "template": [0, 2], "added": [0, 1, 2]}


def test_equal_counts_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a", counts_of([1, 2, 3], {"x": [1, 0, 0], "y": [0, 0, 1]}))
    write(tmp_path / "b", counts_of([1, 2, 3], {"y": [0, 0, 1], "x": [1, 0, 0]}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_counts_of_another_tokenizer_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "c", counts_of([1, 2, 3]))
    with pytest.raises(TokenizerMismatch, match=r"c was counted with another.*sha256:u"):
        read_counts(tmp_path / "c", tokenizer="sha256:u")


def test_an_existing_file_stays_without_force(tmp_path: Path) -> None:
    write(tmp_path / "c", counts_of([1, 2, 3]))
    with pytest.raises(OutputExists):
        write(tmp_path / "c", counts_of([9, 9, 9]))
    write(tmp_path / "c", counts_of([9, 9, 9]), force=True)
    assert read_counts(tmp_path / "c")[0].counts.tolist() == [9, 9, 9]


def rewritten(path: Path, **changes: Any) -> None:
    """Write a good file again with a tensor, a fact or a field of the manifest changed."""
    write(path, counts_of([5, 0, 2], {"d": [1, 0, 0]}))
    tensors, manifest = read_artifact(path, KIND)
    tensors |= changes.pop("tensors", {})
    for name in changes.pop("without", ()):
        del tensors[name]
    fields = {
        "vocab_size": manifest.vocab_size,
        "tokenizer": manifest.tokenizer,
        "facts": {**manifest.facts, **changes.pop("facts", {})},
    }
    write_artifact(path, tensors, Manifest(KIND, **(fields | changes)), force=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensors": {"counts": np.array([5, 1, 2])}}, "damaged.*in no document"),
        ({"tensors": {"counts": np.array([5.0, 0, 2])}}, "damaged.*int64"),
        ({"without": ["documents"]}, "damaged.*documents"),
        ({"without": ["counts.d"]}, r"damaged.*counts\.d"),
        ({"facts": {"n_documents": 1}}, "damaged.*of 1 documents"),
        ({"facts": {"n_documents": "many"}}, "damaged"),
        ({"facts": {"special_ids": {"eos": []}}}, "damaged.*template"),
        ({"facts": {"special_ids": {"eos": [3], "template": [], "added": []}}}, "special id 3"),
        ({"facts": {"special_ids": {"eos": [-1], "template": [], "added": []}}}, "special id -1"),
        ({"vocab_size": 4}, "cover 3 ids, but their manifest says 4"),
        ({"tokenizer": None}, "do not name their tokenizer"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    rewritten(tmp_path / "c", **changes)
    with pytest.raises(ArtifactError, match=message):
        read_counts(tmp_path / "c")


def test_another_artifact_is_refused(tmp_path: Path) -> None:
    write_artifact(tmp_path / "v", {"ids": np.arange(3)}, Manifest("draft vocabulary", 3, None))
    with pytest.raises(ArtifactError, match="holds draft vocabulary, but counts is needed"):
        read_counts(tmp_path / "v")
