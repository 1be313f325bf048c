"""Configs: what K and V are held against, and what null means."""

from __future__ import annotations

from pathlib import Path

from tests.clean_drafters import V, specforge, target, trimmed_lm, whole
from tests.tiny import edit, tiny_lm
from vocabtrim.pipeline.checks import configs
from vocabtrim.pipeline.checks.base import Finding, Kind, Severity
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path, verifier: Path | None = None) -> Subject:
    opened = None if verifier is None else Verifier(Checkpoint.open(verifier))
    return Subject(path, Form.CHECKPOINT, Checkpoint.open(path), target=opened)


def test_padding_of_v_is_no_contradiction(tmp_path: Path) -> None:
    bare = edit(specforge(tmp_path / "d"), drop=["t2d"], config={"vocab_size": V + 64})
    subject = looked(bare, target(tmp_path / "t"))
    assert not list(configs.vocab_size(subject))
    assert len(list(configs.target_vocabulary(subject))) == 1


def test_k_in_place_of_v_shows_in_ids_beyond_it(tmp_path: Path) -> None:
    bare = edit(specforge(tmp_path / "d"), drop=["t2d"], config={"vocab_size": 64})
    (said,) = configs.vocab_size(looked(bare))
    assert said.what == "vocab_size is 64, which is its K, and there are 153 ids"


def test_an_independent_drafter_of_another_v_is_refused_until_it_is_trimmed(
    tmp_path: Path,
) -> None:
    verifier = target(tmp_path / "t")
    for further, refusing in ((64, 2), (256, 3)):
        size = V + further
        whole = looked(tiny_lm(tmp_path / f"lm{size}", vocab_size=size), verifier)
        (said,) = configs.target_vocabulary(whole)
        readers = [one.reader for one in said.effects if one.kind is Kind.REFUSES]
        assert len(readers) == refusing
        assert ("llama.cpp" in readers) == (further > 128)
    assert not list(configs.target_vocabulary(looked(trimmed_lm(tmp_path / "x" / "d"), verifier)))


def test_null_means_the_targets_head_to_one_engine(tmp_path: Path) -> None:
    shared = edit(whole(tmp_path / "s"), drop=["lm_head.weight"], config={"draft_vocab_size": None})
    assert not list(configs.draft_size(looked(shared)))
    (said,) = configs.draft_size(
        looked(edit(whole(tmp_path / "w"), config={"draft_vocab_size": None}))
    )
    judged = Finding.of("n", said)
    assert judged is not None
    assert judged.severity is Severity.FAULT
    assert [one.reader for one in judged.effects] == ["sglang"]
