"""A draft vocabulary leaves in every form, and every form is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.errors import ArtifactError, OutputExists, PluginError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.engines.base import ENGINES
from vocabtrim.pipeline.export import export, forms
from vocabtrim.tensors import id_writer
from vocabtrim.tensors.id_lists import read_ids

IDS = [2, 3, 50, 70_000]


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.safetensors"
    write_vocab(
        path, DraftVocab(np.array(IDS), 80_000, "sha256:t"), inputs={}, options={}, facts={}
    )
    return path


@pytest.mark.parametrize("form", id_writer.FORMS)
def test_every_form_reads_back_as_the_same_ids(vocab: Path, tmp_path: Path, form: str) -> None:
    if form == "ids-pt":
        pytest.importorskip("torch")
    result = export(vocab, form, tmp_path / "list", force=False)
    assert (result.form, result.K, result.V, result.tokenizer) == (form, 4, 80_000, "sha256:t")
    assert result.outputs[0] == str(tmp_path / "list")
    for output in result.outputs:
        assert read_ids(Path(output), 80_000).ids.tolist() == IDS
    assert [line.split("→")[1].strip() for line in result.lines()] == list(result.outputs)
    assert result.to_json()["export"]["outputs"] == list(result.outputs)


def test_every_list_that_can_be_written_can_be_exported() -> None:
    known = forms()
    assert set(id_writer.FORMS) <= set(known)
    assert all(form.summary for form in known.values())


def test_every_engine_is_a_form() -> None:
    names = {engine.name for engine in ENGINES.load_all().values()}
    assert names <= set(forms())
    assert {"vllm", "sglang", "llama.cpp", "transformers"} <= names


def test_an_unknown_form_names_those_there_are(vocab: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PluginError, match=r"nothing is exported to 'ids'; there are .*, ids-json, "
    ):
        export(vocab, "ids", tmp_path / "list")


def test_what_is_no_vocabulary_or_is_there_already(vocab: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        export(tmp_path / "absent", "ids-txt", tmp_path / "list")
    (tmp_path / "list").write_text("mine")
    with pytest.raises(OutputExists):
        export(vocab, "ids-txt", tmp_path / "list")
    assert (tmp_path / "list").read_text() == "mine"
    export(vocab, "ids-txt", tmp_path / "list", force=True)
    assert (tmp_path / "list").read_text().split() == [str(one) for one in IDS]
