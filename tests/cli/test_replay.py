"""`vocabtrim replay` as a user meets it, on a trace of drawn logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.traces import TOKENIZER, V, World
from vocabtrim.core.trace_file import write_trace
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    write_trace(path, World(5).trace(2), inputs={}, options={}, facts={"drafter": "small"})
    for name, ids in (("full", range(V)), ("rare", (3, 11))):
        vocab = DraftVocab.from_ids(list(ids), V, TOKENIZER)
        write_vocab(tmp_path / name, vocab, inputs={}, options={}, facts={})
    return path


def test_a_table_and_a_document(vocabtrim: Command, trace: Path, tmp_path: Path) -> None:
    outcome = vocabtrim(
        *("replay", trace, "--vocab", tmp_path / "full", "--gamma", "1,2-4"),
        *("--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 6
    runs = json.loads((tmp_path / "r.json").read_text())["replay"]["runs"]
    assert [run["gamma"] for run in runs] == [1, 2, 3, 4]
    assert all(f"{run['block_efficiency']:.3f} ±" in outcome.out for run in runs)


def test_faults_are_one_sentence(vocabtrim: Command, trace: Path, tmp_path: Path) -> None:
    for more, said in (
        (("--gamma", "9", "--vocab", tmp_path / "full"), "draft lengths 0 to 4, asked for 9"),
        (("--gamma", "x"), "--gamma takes numbers"),
        ((), "say what to replay"),
        (("--top-k", "64"), "give --counts"),
        (("--vocab", tmp_path / "rare"), "positions open under this vocabulary"),
        (("--vocab", tmp_path / "absent"), "absent"),
    ):
        outcome = vocabtrim("replay", trace, *more)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert said in outcome.err
