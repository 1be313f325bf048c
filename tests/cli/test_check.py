"""`vocabtrim check` as a user meets it: lines, exit codes, options."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clean_drafters import (
    fr_spec,
    gguf_drafter,
    gguf_target,
    specforge,
    speculators,
    target,
    token_map,
)
from tests.cli.conftest import Command
from tests.planted_faults import wanted
from tests.tiny import edit


def test_clean_is_0_and_a_fault_is_3(vocabtrim: Command, tmp_path: Path) -> None:
    drafter = specforge(tmp_path / "d")
    clean = vocabtrim("check", drafter)
    assert clean.code == 0, clean.out
    assert clean.out.count("\n") == 1
    assert "0 faults, 0 losses, 0 notes" in clean.out
    edit(drafter, drop=["d2t", "t2d"])
    broken = vocabtrim("check", drafter, "--json", tmp_path / "r.json")
    assert broken.code == 3
    assert broken.out.startswith("fault  map-missing: its head has 64 of 256 rows")
    assert json.loads((tmp_path / "r.json").read_text())["check"]["faults"] == 1


def test_a_loss_is_0_unless_strict(vocabtrim: Command, tmp_path: Path) -> None:
    ids = fr_spec(tmp_path / "d")
    assert vocabtrim("check", ids).code == 0
    assert vocabtrim("check", ids, "--strict").code == 3


def test_engines_narrow_it(vocabtrim: Command, tmp_path: Path) -> None:
    drafter = speculators(tmp_path / "d")
    assert vocabtrim("check", drafter).code == 0
    assert vocabtrim("check", drafter, "--engine", "vllm").code == 0
    asked = vocabtrim("check", drafter, "--engine", "vllm", "--engine", "sglang")
    assert asked.code == 3
    assert "no-reader" in asked.out
    unknown = vocabtrim("check", drafter, "--engine", "nosuch")
    assert unknown.code == 2
    assert "no engine is called 'nosuch'" in unknown.err


def test_target_and_vocabulary_are_held_against_it(vocabtrim: Command, tmp_path: Path) -> None:
    drafter = edit(specforge(tmp_path / "d"), config={"target_hidden_size": 64})
    beside = vocabtrim("check", drafter, "--target", target(tmp_path / "t"))
    assert beside.code == 3
    assert "target-width" in beside.out
    other = wanted(tmp_path / "v.safetensors")
    asked = vocabtrim("check", specforge(tmp_path / "e"), "--vocab", other)
    assert asked.code == 3
    assert "ids-asked-for" in asked.out


def test_what_is_not_there_is_bad_input(vocabtrim: Command, tmp_path: Path) -> None:
    outcome = vocabtrim("check", tmp_path / "nothing")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1


def test_a_probe_asks_for_the_target(vocabtrim: Command, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("hello\n")
    outcome = vocabtrim("check", specforge(tmp_path / "d"), "--probe", tmp_path / "p.txt")
    assert outcome.code == 2
    assert "give --target" in outcome.err


def test_names_of_engines_may_be_written_as_their_makers_do(
    vocabtrim: Command, tmp_path: Path
) -> None:
    drafter = specforge(tmp_path / "d")
    assert vocabtrim("check", drafter, "--engine", "vLLM", "--engine", "SGLang").code == 0


def test_a_part_of_a_drafter_is_not_the_drafter(vocabtrim: Command, tmp_path: Path) -> None:
    drafter = specforge(tmp_path / "d")
    for name in ("model.safetensors", "config.json"):
        outcome = vocabtrim("check", drafter / name)
        assert outcome.code == 2
        assert "it is part of a drafter: give the directory" in outcome.err
    assert vocabtrim("check", token_map(tmp_path / "d")).code == 0


def test_a_probe_says_what_it_cannot_decode(vocabtrim: Command, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("hello\n")
    drafter = gguf_drafter(tmp_path / "d")
    words = ("--probe", tmp_path / "p.txt", "--target", target(tmp_path / "t"))
    outcome = vocabtrim("check", drafter, *words)
    assert outcome.code == 2
    assert "is a GGUF file" in outcome.err
    assert "give --target" not in outcome.err


def test_a_drafter_of_two_gguf_files_is_looked_at_as_they_are(
    vocabtrim: Command, tmp_path: Path
) -> None:
    verifier = gguf_target(tmp_path)
    outcome = vocabtrim("check", gguf_drafter(tmp_path / "d"), "--target", verifier)
    assert outcome.code == 0, outcome.out
