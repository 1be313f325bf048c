"""Kept ids against the tokenizer: ends, template, padding, and whose tokenizer it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import IDS, gguf_drafter, gguf_target, specforge
from tests.tiny import edit, tiny_target
from tests.tiny_tokenizer import write_tokenizer
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.checks import ids
from vocabtrim.pipeline.checks.base import Kind
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer

V = 320
KEPT = DraftVocab(IDS, V)


@pytest.fixture
def verifier(tmp_path: Path) -> Path:
    """A target whose tokenizer has fewer ids than V."""
    return write_tokenizer(tiny_target(tmp_path / "target", vocab_size=V))


def looked(path: Path, verifier: Path, vocab: DraftVocab | None = None) -> Subject:
    opened = Verifier(Checkpoint.open(verifier))
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path), target=opened, vocab=vocab)


def reduced_to(path: Path, kept: np.ndarray) -> Path:
    d2t, t2d = kept - np.arange(kept.size), np.isin(np.arange(V), kept)
    head = np.ones((kept.size, 32), np.float32)
    added = {"d2t": d2t, "t2d": t2d, "lm_head.weight": head}
    return edit(path, add=added, config={"draft_vocab_size": int(kept.size), "vocab_size": V})


def test_ends_and_template_are_asked_of_the_tokenizer(tmp_path: Path, verifier: Path) -> None:
    special = special_ids(Tokenizer.open(verifier))
    assert special.eos
    whole = np.union1d(IDS, [*special.eos, *special.template])
    path = reduced_to(specforge(tmp_path / "d"), whole)
    assert not list(ids.ends(looked(path, verifier)))
    assert not list(ids.template(looked(path, verifier)))
    less = np.setdiff1d(whole, special.eos)
    (said,) = ids.ends(looked(reduced_to(path, less), verifier))
    assert said.what.startswith("it has no id that ends a generation")


def test_ids_beyond_the_tokenizer(tmp_path: Path, verifier: Path) -> None:
    known = Tokenizer.open(verifier).vocab_size
    assert known < V
    path = reduced_to(specforge(tmp_path / "d"), np.append(np.arange(63), V - 1))
    (said,) = ids.beyond_tokenizer(looked(path, verifier))
    assert said.what == f"1 ids lie beyond the {known} of the tokenizer ({V - 1})"
    inside = reduced_to(path, np.arange(known))
    assert not list(ids.beyond_tokenizer(looked(inside, verifier)))


def test_other_tokenizers_are_named(tmp_path: Path, verifier: Path) -> None:
    path = specforge(tmp_path / "d")
    assert not list(ids.tokenizers(looked(path, verifier)))
    write_tokenizer(path)
    assert not list(ids.tokenizers(looked(path, verifier)))
    document = json.loads((path / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    one, other = list(vocabulary)[:2]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (path / "tokenizer.json").write_text(json.dumps(document))
    (said,) = ids.tokenizers(looked(path, verifier))
    assert said.what.startswith("2 of 267 ids are other tokens in the target: 0 is")
    assert said.effects[0].kind is Kind.WRONG


def test_reserved_tokens_that_got_names_are_a_loss_and_later_ones_nothing(
    tmp_path: Path, verifier: Path
) -> None:
    path = write_tokenizer(specforge(tmp_path / "d"))
    document = json.loads((path / "tokenizer.json").read_text())
    document["added_tokens"][-1]["content"] = "<|reserved|>"
    (path / "tokenizer.json").write_text(json.dumps(document))
    (path / "tokenizer_config.json").unlink(missing_ok=True)
    (said,) = ids.tokenizers(looked(path, verifier))
    assert "is '<|reserved|>' to the drafter" in said.what
    assert said.effects[0].kind is Kind.SLOWER
    document["added_tokens"].pop()
    (path / "tokenizer.json").write_text(json.dumps(document))
    assert not list(ids.tokenizers(looked(path, verifier)))


def test_a_gguf_drafter_is_held_against_its_target(tmp_path: Path, verifier: Path) -> None:
    drafter = gguf_drafter(tmp_path / "d")

    def beside(target: Path) -> Subject:
        return Subject(
            drafter, Form.GGUF, gguf=open_gguf(drafter), target=Verifier.open(str(target))
        )

    assert not list(ids.tokenizers(beside(gguf_target(tmp_path))))
    (said,) = ids.tokenizers(beside(verifier))
    assert said.what.startswith("256 of 256 ids are other tokens in the target: 0 is 'token0' to")
    assert said.effects[0].kind is Kind.WRONG


def test_a_damaged_tokenizer_is_said_and_stops_nothing(tmp_path: Path, verifier: Path) -> None:
    path = specforge(tmp_path / "d")
    (path / "tokenizer.json").write_text("{")
    subject = looked(path, verifier)
    (said,) = ids.damaged_tokenizer(subject)
    assert said.what.startswith("the tokenizer of drafter cannot be read (")
    assert not list(ids.tokenizers(subject))


def test_the_ids_that_were_asked_for(tmp_path: Path, verifier: Path) -> None:
    path = reduced_to(specforge(tmp_path / "d"), IDS)
    assert not list(ids.asked_for(looked(path, verifier, KEPT)))
    other = DraftVocab(np.append(IDS[:-2], [250, 251]), V)
    (said,) = ids.asked_for(looked(path, verifier, other))
    assert said.what == "it has 2 ids that were not asked for and lacks 2 that were"


def test_any_order_of_the_right_ids_is_right(tmp_path: Path, verifier: Path) -> None:
    by_frequency = np.random.default_rng(0).permutation(IDS)
    path = edit(specforge(tmp_path / "d"), add={"d2t": by_frequency - np.arange(64)})
    assert not list(ids.asked_for(looked(path, verifier, KEPT)))
