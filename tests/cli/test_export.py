"""`vocabtrim export` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clean_drafters import specforge, trimmed_lm
from tests.cli.conftest import Command
from vocabtrim.families import mtp
from vocabtrim.pipeline.export import forms


def test_a_vocabulary_as_text(vocabtrim: Command, counts: Path, tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.safetensors"
    vocabtrim("select", counts, "--top-k", 3, "--exact-k", "-o", vocab)
    outcome = vocabtrim(
        *("export", vocab, "--to", "ids-txt", "-o", tmp_path / "ids.txt"),
        *("--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    assert f"3 of 10 ids  →  {tmp_path / 'ids.txt'}" in outcome.out
    assert (tmp_path / "ids.txt").read_text() == "0\n1\n2\n"
    result = json.loads((tmp_path / "r.json").read_text())["export"]
    assert (result["form"], result["K"], result["V"]) == ("ids-txt", 3, 10)
    again = vocabtrim("export", vocab, "--to", "ids-txt", "-o", tmp_path / "ids.txt")
    assert again.code == 2
    assert "--force" in again.err


def test_help_and_errors_name_every_form(vocabtrim: Command, counts: Path, tmp_path: Path) -> None:
    shown = vocabtrim("export", "--help").out
    refused = vocabtrim("export", counts, "--to", "nosuch", "-o", tmp_path / "x")
    assert refused.code == 2
    for form in forms():
        assert form in shown
        assert form in refused.err


def test_counts_are_no_vocabulary(vocabtrim: Command, counts: Path, tmp_path: Path) -> None:
    outcome = vocabtrim("export", counts, "--to", "ids-txt", "-o", tmp_path / "x")
    assert outcome.code == 2
    assert "holds counts, but draft vocabulary is needed here" in outcome.err
    assert not (tmp_path / "x").exists()


def test_a_drafter_for_an_engine(vocabtrim: Command, tmp_path: Path) -> None:
    drafter = specforge(tmp_path / "d")
    outcome = vocabtrim(
        *("export", drafter, "--to", "vllm", "-o", tmp_path / "out"),
        *("--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    result = json.loads((tmp_path / "r.json").read_text())["export"]
    assert result["command"] in outcome.out
    assert result["level"] == "served"
    other = trimmed_lm(tmp_path / "e")
    refused = vocabtrim("export", other, "--to", "sglang", "-o", tmp_path / "x")
    assert refused.code == 2
    assert "sglang takes no drafters of the family independent" in refused.err


def test_names_may_be_written_as_their_makers_do(vocabtrim: Command, tmp_path: Path) -> None:
    outcome = vocabtrim("export", specforge(tmp_path / "d"), "--to", "vLLM", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err


def test_a_drafter_has_no_list_until_one_is_made(vocabtrim: Command, tmp_path: Path) -> None:
    drafter = specforge(tmp_path / "d")
    outcome = vocabtrim("export", drafter, "--to", "ids-json", "-o", tmp_path / "ids.json")
    assert outcome.code == 2
    assert "is a directory" in outcome.err
    assert "`vocabtrim select --ids` makes one" in outcome.err


def test_a_family_is_named_where_there_are_several(vocabtrim: Command, tmp_path: Path) -> None:
    mtp.PLUGIN.tiny_checkpoint(tmp_path / "d")
    words = ("export", tmp_path / "d", "--to", "sglang", "-o", tmp_path / "out")
    assert "say with --family which is meant" in vocabtrim(*words).err
    assert "trim it first" in vocabtrim(*words, "--family", "mtp").err
