from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.errors import ArtifactError, VocabError
from vocabtrim.core.manifest import Manifest, write_artifact
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import KIND, read_vocab, write_vocab


def test_a_draft_vocabulary_comes_back(tmp_path: Path) -> None:
    vocab = DraftVocab(np.array([1, 4, 9]), 12, "sha256:t")
    write_vocab(tmp_path / "v", vocab, inputs={"c": "h"}, options={"rule": "r"}, facts={"K": 3})
    back, manifest = read_vocab(tmp_path / "v")
    assert back == vocab
    assert (manifest.inputs, manifest.options, manifest.facts) == (
        {"c": "h"},
        {"rule": "r"},
        {"K": 3},
    )


def test_damaged_ids_are_refused(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a", {"idz": np.arange(3)}, Manifest(KIND, 12, None))
    with pytest.raises(ArtifactError, match="`ids` is missing"):
        read_vocab(tmp_path / "a")
    write_artifact(tmp_path / "b", {"ids": np.array([3, 1])}, Manifest(KIND, 12, None))
    with pytest.raises(VocabError, match="ascend"):
        read_vocab(tmp_path / "b")


def test_what_is_no_vocabulary_says_how_one_is_made(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1 2 3")
    for place in (tmp_path / "ids.txt", tmp_path):
        with pytest.raises(ArtifactError, match=r"`vocabtrim select --ids` makes one"):
            read_vocab(place)
    with pytest.raises(ArtifactError, match=r"no such file$"):
        read_vocab(tmp_path / "missing")
