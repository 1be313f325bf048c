"""What a target says of itself, in a directory and in a GGUF file that stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from tests.clean_drafters import V, gguf_target, sidecar, target
from tests.tiny import edit
from tests.tiny_gguf import tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.pipeline.checks.verifier import Verifier, ends_of, positive
from vocabtrim.tensors.checkpoint import Checkpoint


def test_a_directory(tmp_path: Path) -> None:
    found = Verifier.open(str(target(tmp_path / "t")))
    assert (found.vocab_size, found.hidden_size, found.depth) == (V, 32, 8)
    assert (found.kind, found.tied, found.gguf, found.predicts) == ("llama", False, None, None)
    assert found.head is not None
    assert found.head.name == "lm_head.weight"
    assert found.ends == {2}


def test_a_gguf_file_is_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "cache"))
    found = Verifier.open(str(gguf_target(tmp_path)))
    assert not (tmp_path / "cache").exists()
    assert (found.vocab_size, found.hidden_size, found.kind) == (256, 256, "llama")
    assert (found.depth, found.tied, dict(found.config)) == (None, False, {})
    assert found.head is not None
    assert found.head.name == "token_embd.weight"
    assert found.weights.rows(found.head.name).shape[0] == 256
    untied = Verifier.open(str(tiny_gguf_target(tmp_path / "u.gguf", tied=False)))
    assert untied.head is not None
    assert untied.head.name == "output.weight"


def test_sizes_and_ends_of_a_gguf_file_are_metadata(tmp_path: Path) -> None:
    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(31)
        writer.add_uint32("eagle3.nextn_predict_layers", 1)
        writer.add_eos_token_id(7)
        writer.add_eot_token_id(9)

    found = Verifier.open(str(tiny_gguf(tmp_path / "d.gguf", more=more)))
    assert found.depth == 30
    assert found.ends == {7, 9}
    assert found.head is None


def test_a_head_that_is_packed_or_missing_is_none(tmp_path: Path) -> None:
    path = edit(target(tmp_path / "t"), drop=["lm_head.weight"])
    assert Verifier.open(str(path)).head is None


def test_prediction_layers_are_known(tmp_path: Path) -> None:
    sidecar(tmp_path / "d")
    found = Verifier.open(str(tmp_path / "host"))
    assert found.predicts is not None


def test_ends_are_everywhere_that_they_stand(tmp_path: Path) -> None:
    path = edit(target(tmp_path / "t"), config={"eos_token_id": [3, "x", -1, True]})
    assert ends_of(Checkpoint.open(path)) == {3}
    generation = path / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": [8, 9]}))
    assert ends_of(Checkpoint.open(path)) == {3, 8, 9}
    generation.write_text("no JSON")
    assert ends_of(Checkpoint.open(path)) == {3}


def test_what_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a directory"):
        Verifier.open(str(tmp_path / "nothing"))
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="damaged GGUF"):
        Verifier.open(str(tmp_path / "x.gguf"))


@pytest.mark.parametrize("odd", [None, True, 0, -1, 1.0, "1", [1]])
def test_only_positive_whole_numbers_are_sizes(odd: object) -> None:
    assert positive(odd) is None
    assert positive(3) == 3
