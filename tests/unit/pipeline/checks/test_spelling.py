"""Two tokenizers id by id: what makes an id another token, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import gguf_drafter, specforge, target
from tests.tiny_tokenizer import write_tokenizer
from vocabtrim.pipeline.checks import spelling
from vocabtrim.pipeline.checks.spelling import (
    DRAFTER,
    TARGET,
    Differing,
    Spelling,
    compare_tokens,
    length_of,
)
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tokens.tokenizer import Tokenizer, fingerprint_of


@pytest.mark.parametrize(
    ("one", "other", "ids", "moved"),
    [
        (["a", "b"], ["a", "b", "c"], (), 0),
        (["a", None], ["a", "b"], (), 0),
        (["\u2581\u2581", "a"], ["  ", "a"], (), 0),  # as llama.cpp's converter writes them
        (["a", "b"], ["b", "a"], (0, 1), 2),
        (["a", "<reserved>"], ["a", "<think>"], (1,), 0),
    ],
)
def test_what_makes_an_id_another_token(
    one: list[str | None], other: list[str | None], ids: tuple[int, ...], moved: int
) -> None:
    found = compare_tokens(one, other)
    assert (found.ids, found.moved) == (ids, moved)
    assert compare_tokens(other, one).ids == ids


def test_a_few_new_names_are_a_version_and_moved_tokens_are_not() -> None:
    assert Differing(1000, (5,), 0).renamed
    assert not Differing(1000, (5,), 1).renamed
    assert not Differing(100, (5,), 0).renamed


def test_padding_is_no_part_of_a_list() -> None:
    assert length_of(["a", None, "b", None]) == 3
    assert length_of([None]) == length_of([]) == 0


def test_a_tokenizer_of_the_same_bytes_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def count(path: Path) -> Tokenizer:
        opened.append(path)
        return Tokenizer.open(path)

    class Counting:
        open = staticmethod(count)

    monkeypatch.setattr(spelling, "Tokenizer", Counting)
    places = [write_tokenizer(build(tmp_path / build.__name__)) for build in (specforge, target)]
    drafter, verifier = map(Checkpoint.open, places)
    found = Spelling(drafter, verifier)
    assert found.tokens[DRAFTER] is found.tokens[TARGET]
    assert opened == [verifier.path]
    assert found.fingerprints[TARGET] == fingerprint_of(verifier.path)
    (places[0] / "tokenizer.json").write_text((places[0] / "tokenizer.json").read_text() + "\n")
    assert Spelling(drafter, verifier).tokens[DRAFTER] == found.tokens[TARGET]
    assert len(opened) == 3


def test_one_that_cannot_be_read_is_told_and_the_other_read(tmp_path: Path) -> None:
    drafter = write_tokenizer(specforge(tmp_path / "d"))
    verifier = target(tmp_path / "t")
    (verifier / "tokenizer.json").write_text("{}")
    found = Spelling(Checkpoint.open(drafter), Checkpoint.open(verifier))
    assert list(found.tokens) == [DRAFTER]
    assert list(found.damaged) == [TARGET]
    assert found.written is not None
    assert found.size == Tokenizer.open(drafter).vocab_size


def test_a_gguf_file_has_tokens_and_no_template(tmp_path: Path) -> None:
    found = Spelling(open_gguf(gguf_drafter(tmp_path)), None)
    assert found.tokens[DRAFTER][:2] == ["token0", "token1"]
    assert (found.size, found.written) == (256, None)
    assert Spelling(None, None).size is None
