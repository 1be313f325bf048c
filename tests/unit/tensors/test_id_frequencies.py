"""Other tools' frequencies as counts, and nothing that they do not say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vocabtrim.core.counts import SpecialIds
from vocabtrim.core.errors import CalibrationError, VocabError
from vocabtrim.core.sufficiency import unseen
from vocabtrim.tensors.id_frequencies import NO_COUNTS, NO_DOCUMENTS, read_frequencies

V = 50


def saved(path: Path, value: Any) -> Path:
    torch = pytest.importorskip("torch")
    torch.save(value, path)
    return path


@pytest.mark.parametrize("as_counter", [False, True])
def test_speculators_token_freq(tmp_path: Path, as_counter: bool) -> None:
    frequencies = {9: 4, 2: 10, 30: 1}
    value = Counter(frequencies) if as_counter else frequencies
    special = SpecialIds(eos=(2,))
    found = read_frequencies(saved(tmp_path / "token_freq.pt", value), V, "t", special)
    assert {i: int(found.counts.counts[i]) for i in frequencies} == frequencies
    assert (found.counts.n_tokens, found.counts.vocab_size, found.counts.tokenizer) == (15, V, "t")
    assert found.counts.special == special
    assert found.notes == (NO_DOCUMENTS,)
    # one document says nothing of new ones
    assert unseen(found.counts).share is None


def test_json_mappings(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"9": 4, "2": 10}))
    assert read_frequencies(path, V, "t").counts.n_tokens == 14


def test_a_prepared_sample_is_a_document(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    sample = {
        "input_ids": torch.tensor([[5, 6, 7, 7, 8]]),
        "loss_mask": torch.tensor([[0, 0, 1, 1, 1]]),
        "hidden_state": torch.zeros(5, 4, dtype=torch.bfloat16),
    }
    found = read_frequencies(saved(tmp_path / "data_0.ckpt", sample), V, "t")
    assert np.flatnonzero(found.counts.counts).tolist() == [7, 8]
    assert found.counts.counts[7] == 2
    assert (found.kind, found.notes) == ("prepared sample", ())


def test_vocabulary_caches_count_each_id_once(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    ids = torch.tensor([2, 3, 9, 30])
    mask = torch.zeros(V, dtype=torch.bool)
    mask[ids] = True
    cache = {"d2t": ids - torch.arange(4), "t2d": mask}
    found = read_frequencies(saved(tmp_path / "cache.pt", cache), V, "t")
    assert np.flatnonzero(found.counts.counts).tolist() == [2, 3, 9, 30]
    assert found.counts.n_tokens == 4
    assert found.notes == (NO_COUNTS, NO_DOCUMENTS)
    mask[30] = False
    with pytest.raises(VocabError, match="not the same"):
        read_frequencies(saved(tmp_path / "wrong.pt", cache), V, "t")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"50": 1}, "id 50 with count 1 is impossible: ids run from 0 to 49"),
        ({"5": -1}, "count -1 is impossible"),
        ({"5": 1.5}, "'5': 1.5"),
        ({"the": 3}, "'the': 3"),
        ({"5": True}, "'5': True"),
        ({"5": 0}, "no id occurs"),
        ([1, 2], "found list"),
        ({}, "mapping of ids to counts"),
        ({"input_ids": [1, 2], "loss_mask": [1]}, "each of the 2 input_ids"),
        ({"input_ids": [1, 2]}, "is 0 long"),
        ({"input_ids": [1, 99], "loss_mask": [1, 1]}, "not ids below the 50"),
        ({"input_ids": [1.5], "loss_mask": [1]}, "not ids below"),
    ],
)
def test_impossible_frequencies_are_refused(tmp_path: Path, document: Any, says: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(document))
    with pytest.raises(CalibrationError, match=says) as refusal:
        read_frequencies(path, V, "t")
    assert str(refusal.value).startswith(str(path))


def test_what_is_no_mapping_at_all(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        read_frequencies(tmp_path / "nothing", V, "t")
    (tmp_path / "text").write_text("1 2 3")
    with pytest.raises(CalibrationError, match="neither"):
        read_frequencies(tmp_path / "text", V, "t")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x01")
    with pytest.raises(CalibrationError, match="neither"):
        read_frequencies(tmp_path / "bytes", V, "t")
