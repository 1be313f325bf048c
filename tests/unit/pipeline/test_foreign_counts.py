"""Count files and other tools' frequencies come through one door, told apart by content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_tokenizer import tokenizer
from tests.unit.core.documents import counts_of
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import ArtifactError, CalibrationError, TokenizerMismatch
from vocabtrim.core.manifest import file_hash
from vocabtrim.pipeline.foreign_counts import read_any_counts
from vocabtrim.tensors.id_frequencies import NO_DOCUMENTS
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer


@pytest.fixture
def opened(tmp_path: Path) -> Tokenizer:
    return tokenizer(tmp_path / "tokenizer")


def ours(path: Path, opened: Tokenizer) -> TokenCounts:
    plain = counts_of([[1, 2, 2]], opened.vocab_size)
    counts = TokenCounts(plain.counts, plain.documents, 1, opened.fingerprint)
    write_counts(path, counts, inputs={"a": "sha256:1"}, options={}, facts={})
    return counts


def test_ours_need_no_tokenizer(tmp_path: Path, opened: Tokenizer) -> None:
    counts = ours(tmp_path / "c", opened)
    for named in (None, opened):
        found, manifest = read_any_counts(tmp_path / "c", named)
        assert found == counts
        assert manifest.inputs == {"a": "sha256:1"}
    other = tokenizer(tmp_path / "other", added=("<|im_end|>",))
    with pytest.raises(TokenizerMismatch):
        read_any_counts(tmp_path / "c", other)


@pytest.mark.parametrize("as_torch", [False, True])
def test_frequencies_become_counts_of_the_tokenizer(
    tmp_path: Path, opened: Tokenizer, *, as_torch: bool
) -> None:
    path = tmp_path / "token_freq.pt"
    if as_torch:
        pytest.importorskip("torch").save({5: 7, 9: 1}, path)
    else:
        path.write_text(json.dumps({"5": 7, "9": 1}))
    counts, manifest = read_any_counts(path, opened)
    assert np.flatnonzero(counts.counts).tolist() == [5, 9]
    assert (counts.n_tokens, counts.n_documents) == (8, 1)
    assert (counts.tokenizer, counts.vocab_size) == (opened.fingerprint, opened.vocab_size)
    assert counts.special == special_ids(opened)
    assert manifest.kind == "counts"
    assert manifest.inputs == {str(path): file_hash(path)}
    assert manifest.facts["warnings"] == [f"{path}, frequencies: {NO_DOCUMENTS}"]


def test_another_tools_file_needs_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "freq.json"
    path.write_text('{"5": 7}')
    with pytest.raises(ArtifactError, match="say whose ids they are with --tokenizer T"):
        read_any_counts(path)


def test_what_is_neither(tmp_path: Path, opened: Tokenizer) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        read_any_counts(tmp_path / "absent", opened)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CalibrationError, match=r"a .pt file or JSON, and this is neither"):
        read_any_counts(tmp_path / "text", opened)
    # a damaged file of ours is said to be damaged, not to be another tool's
    ours(tmp_path / "c", opened)
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:200])
    with pytest.raises(ArtifactError, match="not a readable safetensors file"):
        read_any_counts(tmp_path / "c", opened)


def test_a_header_whose_length_looks_like_a_pickle(tmp_path: Path, opened: Tokenizer) -> None:
    # its first byte is 0x80 where the header is 128 bytes longer than a multiple of 256
    for n in range(256):
        plain = counts_of([[1]], opened.vocab_size)
        counts = TokenCounts(plain.counts, plain.documents, 1, opened.fingerprint)
        path = tmp_path / f"c{n}"
        write_counts(path, counts, inputs={}, options={"x": "x" * 8 * n}, facts={})
        if path.read_bytes()[0] == 0x80:
            assert read_any_counts(path)[0] == counts
            return
    pytest.fail("no such header was made")
