"""Every form is read back as what was written, by us and as its readers do it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.errors import MissingExtra, OutputExists, VocabError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.id_lists import read_ids
from vocabtrim.tensors.id_writer import FORMS, write_ids

VOCAB = DraftVocab.from_ids([2, 3, 9, 30], 50, "sha256:abc")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back(tmp_path: Path, form: str) -> None:
    if form == "ids-pt":
        pytest.importorskip("torch")
    path = tmp_path / "ids.pt"
    files = write_ids(path, VOCAB, form)
    assert files == ([path, tmp_path / "ids.json"] if form == "ids-pt" else [path])
    assert sorted(tmp_path.iterdir()) == sorted(files)
    for file in files:
        found = read_ids(file, 50)
        np.testing.assert_array_equal(found.ids, VOCAB.ids)
        assert found.notes == ()


@settings(deadline=None, max_examples=40)
@given(
    st.sets(st.integers(0, 199), min_size=1), st.sampled_from(["ids-json", "ids-txt", "ids-npy"])
)
def test_any_vocabulary_comes_back_without_a_word(
    tmp_path_factory: pytest.TempPathFactory, ids: set[int], form: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "ids"
    vocab = DraftVocab.from_ids(sorted(ids), 200)
    write_ids(path, vocab, form)
    assert read_ids(path, 200).vocab(200) == vocab


def test_json_names_v_and_the_tokenizer(tmp_path: Path) -> None:
    write_ids(tmp_path / "ids", VOCAB, "ids-json")
    assert json.loads((tmp_path / "ids").read_text()) == {
        "ids": [2, 3, 9, 30],
        "vocab_size": 50,
        "tokenizer": "sha256:abc",
    }
    found = read_ids(tmp_path / "ids")
    assert found.vocab(found.vocab_size or 0, found.tokenizer) == VOCAB


def test_text_is_one_id_a_line(tmp_path: Path) -> None:
    write_ids(tmp_path / "ids", VOCAB, "ids-txt")
    assert (tmp_path / "ids").read_text() == "2\n3\n9\n30\n"


def test_pt_is_what_sglang_loads(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    write_ids(tmp_path / "ids.pt", VOCAB, "ids-pt")
    loaded = torch.load(tmp_path / "ids.pt", weights_only=True)
    assert torch.tensor(loaded, dtype=torch.int64).tolist() == [2, 3, 9, 30]
    first = (tmp_path / "ids.pt").read_bytes()
    write_ids(tmp_path / "ids.pt", VOCAB, "ids-pt", force=True)
    assert (tmp_path / "ids.pt").read_bytes() == first


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "ids.json").write_text("mine")
    with pytest.raises(OutputExists, match=r"ids\.json"):
        write_ids(tmp_path / "ids.pt", VOCAB, "ids-pt")
    assert [file.name for file in tmp_path.iterdir()] == ["ids.json"]
    with pytest.raises(VocabError, match="JSON twin"):
        write_ids(tmp_path / "ids.json", VOCAB, "ids-pt", force=True)
    assert (tmp_path / "ids.json").read_text() == "mine"


def test_forms_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VocabError, match="ids-json, ids-txt, ids-npy, ids-pt, not as 'csv'"):
        write_ids(tmp_path / "ids", VOCAB, "csv")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"vocabtrim\[torch\]"):
        write_ids(tmp_path / "ids", VOCAB, "ids-pt")
    assert not list(tmp_path.iterdir())
