"""A list that somebody else chose becomes a draft vocabulary as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_tokenizer import tokenizer
from tests.unit.core.documents import counts_of
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import CalibrationError, OutputExists, TokenizerMismatch, VocabError
from vocabtrim.core.manifest import file_hash
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.pipeline.adopt import adopt
from vocabtrim.pipeline.enough import NOT_CHOSEN
from vocabtrim.tensors.id_vectors import Reading
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer


@pytest.fixture
def opened(tmp_path: Path) -> Tokenizer:
    return tokenizer(tmp_path / "tokenizer")


def listed(path: Path, ids: list[int]) -> Path:
    path.write_text(json.dumps(ids))
    return path


def counts_file(path: Path, opened: Tokenizer, documents: list[list[int]]) -> Path:
    plain = counts_of(documents, opened.vocab_size)
    special = special_ids(opened)
    counts = TokenCounts(
        plain.counts, plain.documents, plain.n_documents, opened.fingerprint, special
    )
    write_counts(path, counts, inputs={}, options={}, facts={})
    return path


def required(opened: Tokenizer) -> list[int]:
    special = special_ids(opened)
    return sorted({*special.eos, *special.template})


def test_the_list_is_taken_as_it_is(tmp_path: Path, opened: Tokenizer) -> None:
    ids = [40, 9, 77, *required(opened)]
    path = listed(tmp_path / "ids.json", ids)
    result = adopt(path, tmp_path / "v", tokenizer=tmp_path / "tokenizer")
    vocab, manifest = read_vocab(tmp_path / "v")
    assert vocab.ids.tolist() == sorted(ids)
    assert (vocab.vocab_size, vocab.tokenizer) == (opened.vocab_size, opened.fingerprint)
    assert result.to_json()["select"]["K"] == len(ids)
    assert result.to_json()["select"]["V"] == opened.vocab_size
    assert result.rule == f"the ids of {path} (JSON list, as listed)"
    assert (result.counted, result.held_out, result.warnings) == (None, None, ())
    assert manifest.inputs == {str(path): file_hash(path)}
    assert manifest.options == {"ids": str(path), "as": None}
    assert len(result.lines()) == 2


def test_repairs_and_what_a_list_lacks_are_said_and_remembered(
    tmp_path: Path, opened: Tokenizer
) -> None:
    path = listed(tmp_path / "freq_3.json", [40, 9, 77, 9])
    result = adopt(path, tmp_path / "v", tokenizer=tmp_path / "tokenizer")
    repeats, lacking = result.warnings
    assert "ids 9 stand more than once" in repeats
    assert lacking.startswith("the list lacks ids that end a generation")
    assert str(required(opened)[0]) in lacking
    vocab, manifest = read_vocab(tmp_path / "v")
    # nothing is added: the rows of a head may follow the list
    assert vocab.ids.tolist() == [9, 40, 77]
    assert manifest.facts["notes"] == [repeats, lacking]


def test_offsets_and_ids_that_could_be_either(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([9, 40, 77]))
    with pytest.raises(VocabError, match="say which, with --as ids or --as offsets"):
        adopt(tmp_path / "ids.npy", tmp_path / "v", tokenizer=tmp_path / "tokenizer")
    assert not (tmp_path / "v").exists()


@pytest.fixture(autouse=True)
def _tokenizer_is_there(opened: Tokenizer) -> None:
    """Every test names the tokenizer's directory."""


@pytest.mark.parametrize(("reading", "ids"), [("ids", [9, 40, 77]), ("offsets", [9, 41, 79])])
def test_the_caller_says_which(tmp_path: Path, reading: Reading, ids: list[int]) -> None:
    np.save(tmp_path / "ids.npy", np.array([9, 40, 77]))
    whose = tmp_path / "tokenizer"
    adopt(tmp_path / "ids.npy", tmp_path / "v", tokenizer=whose, reading=reading)
    assert read_vocab(tmp_path / "v")[0].ids.tolist() == ids


def test_counts_judge_it_and_stand_for_the_tokenizer(tmp_path: Path, opened: Tokenizer) -> None:
    counts = counts_file(tmp_path / "c", opened, [[40, 9, 5], [9, 9, 6]])
    path = listed(tmp_path / "ids.json", [40, 9, 77])
    result = adopt(path, tmp_path / "v", counts=[counts])
    assert read_vocab(tmp_path / "v")[0].tokenizer == opened.fingerprint
    assert result.counted is not None
    assert result.counted.coverage == pytest.approx(4 / 6)
    assert result.counted.new_text.share == pytest.approx(4 / 6)
    assert result.counted.enough.verdict == NOT_CHOSEN
    assert (result.counted.seen, result.counted.filled) == (2, 0)
    assert [one.id for one in result.counted.dropped] == [5, 6]
    assert {one.text for one in result.counted.dropped} == {None}
    shown = adopt(
        path, tmp_path / "v", counts=[counts], tokenizer=tmp_path / "tokenizer", force=True
    )
    assert shown.counted is not None
    assert shown.counted.dropped[0].text == opened.token_text(5)


def test_held_out_text_judges_it(tmp_path: Path, opened: Tokenizer) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text('{"text": "the ants"}\n')
    ids = opened.encode("the ants").tolist()
    path = listed(tmp_path / "ids.json", ids[:1])
    whose = tmp_path / "tokenizer"
    result = adopt(path, tmp_path / "v", tokenizer=whose, held_out=[held])
    assert result.held_out is not None
    assert result.held_out.coverage.share == pytest.approx(ids.count(ids[0]) / len(ids))
    assert result.lines()[-2].startswith("held out")
    counts = counts_file(tmp_path / "c", opened, [ids])
    with pytest.raises(CalibrationError, match="--tokenizer T"):
        adopt(path, tmp_path / "w", counts=[counts], held_out=[held])
    assert not (tmp_path / "w").exists()


def test_whose_ids_they_are_has_to_be_known(tmp_path: Path) -> None:
    path = listed(tmp_path / "ids.json", [1, 2])
    with pytest.raises(VocabError, match="say whose ids these are"):
        adopt(path, tmp_path / "v")


def test_a_list_that_names_another_tokenizer(tmp_path: Path, opened: Tokenizer) -> None:
    path = tmp_path / "ids.json"
    whose = tmp_path / "tokenizer"
    path.write_text(json.dumps({"ids": [1, 2], "vocab_size": 300, "tokenizer": "sha256:other"}))
    with pytest.raises(TokenizerMismatch, match="is of another tokenizer"):
        adopt(path, tmp_path / "v", tokenizer=whose)
    path.write_text(json.dumps({"ids": [1, 2], "tokenizer": opened.fingerprint}))
    assert adopt(path, tmp_path / "v", tokenizer=whose).K == 2


def test_an_existing_output_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("mine")
    with pytest.raises(OutputExists):
        adopt(tmp_path / "absent", tmp_path / "v", tokenizer=tmp_path / "tokenizer")


def test_a_drafter_with_a_reduced_head_is_a_list_too(tmp_path: Path, opened: Tokenizer) -> None:
    from tests.tiny import tiny_eagle3

    drafter = tiny_eagle3(tmp_path / "drafter", ids=[3, 40, 90], vocab_size=opened.vocab_size)
    result = adopt(drafter, tmp_path / "v", tokenizer=tmp_path / "tokenizer")
    vocab, manifest = read_vocab(tmp_path / "v")
    assert vocab.ids.tolist() == [3, 40, 90]
    assert str(drafter / "config.json") in manifest.inputs
    assert "drafter d2t (offsets)" in result.rule
