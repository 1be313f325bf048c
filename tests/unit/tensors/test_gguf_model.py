"""One file or several parts: the same tensors; a wrong part is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.tiny_gguf import H, V, read_gguf, tiny_gguf
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_model import open_gguf


def test_parts_hold_what_the_single_file_holds(tmp_path: Path) -> None:
    whole = open_gguf(tiny_gguf(tmp_path / "one.gguf", head="Q8_0", ids=[3, 7]))
    parts = open_gguf(tiny_gguf(tmp_path / "two.gguf", head="Q8_0", ids=[3, 7], split=2))
    assert len(whole.files) == 1
    assert len(parts.files) == 3
    assert list(whole.tensors) == list(parts.tensors)
    for name, info in whole.tensors.items():
        assert parts.tensors[name].dtype == info.dtype
        assert np.array_equal(parts.weights.rows(name), whole.weights.rows(name))
    assert parts.vocab_size == whole.vocab_size == V
    assert parts.integer("embedding_length") == H
    assert parts.architecture == "eagle3"


def test_rows_are_those_of_ggufs_own_reader(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "d.gguf", head="Q5_1")
    model, theirs = open_gguf(path), read_gguf(path)
    for name, rows in theirs.data.items():
        assert np.array_equal(model.weights.rows(name), rows)
        assert b"".join(model.weights.chunks(name)) == rows.tobytes()


def test_tokens_are_the_id_to_token_list(tmp_path: Path) -> None:
    def with_holes(writer: gguf.GGUFWriter) -> None:
        kinds = [1] * (V - 2) + [5, 5]
        tokens = [f"token{i}" for i in range(V - 2)] + [f"[PAD{V - 2}]", f"[PAD{V - 1}]"]
        fields = writer.kv_data[0]
        fields["tokenizer.ggml.tokens"].value = tokens
        fields["tokenizer.ggml.token_type"].value = kinds

    path = tiny_gguf(tmp_path / "d.gguf", more=with_holes)
    model = open_gguf(path)
    assert model.tokens()[-3:] == [f"token{V - 3}", None, None]


def test_a_later_part_names_the_first(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "d.gguf", head="Q8_0", split=2)
    with pytest.raises(CheckpointError, match=r"give the first, d-00001-of-00002\.gguf"):
        open_gguf(tmp_path / "d-00002-of-00002.gguf")


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", split=2)
    (tmp_path / "d-00002-of-00002.gguf").unlink()
    with pytest.raises(CheckpointError, match=r"the part d-00002-of-00002\.gguf is not beside it"):
        open_gguf(first)


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    first = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", split=2)
    renamed = first.rename(tmp_path / "other.gguf")
    with pytest.raises(CheckpointError, match=r"must end in -00001-of-00002\.gguf"):
        open_gguf(renamed)


def test_parts_in_each_others_place_are_refused(tmp_path: Path) -> None:
    first = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", split=2)
    shutil.copyfile(first, tmp_path / "d-00002-of-00002.gguf")
    with pytest.raises(CheckpointError, match="part 0 counted from 0, but its name says 1"):
        open_gguf(first)


def test_a_part_of_another_split_is_refused(tmp_path: Path) -> None:
    first = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", split=2)
    other = tiny_gguf(tmp_path / "other.gguf", head="Q8_0", drop=["output_norm.weight"], split=2)
    second = other.with_name(other.name.replace("00001", "00002", 1))
    second.replace(tmp_path / "d-00002-of-00002.gguf")
    with pytest.raises(CheckpointError, match="hold 3 tensors, but it promises 4"):
        open_gguf(first)


def test_what_a_model_has_to_say_is_asked_for_by_name(tmp_path: Path) -> None:
    model = open_gguf(tiny_gguf(tmp_path / "d.gguf"))
    with pytest.raises(CheckpointError, match=r"eagle3\.block_count must be a positive integer"):
        model.integer("block_count")
