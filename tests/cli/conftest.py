"""Running the command line in this process, and a small tokenizer to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from vocabtrim.cli.main import run

WORDS = ["[eos]", "the", "cat", "sat", "on", "a", "mat", "and", "slept", "dog"]


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def vocabtrim(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `vocabtrim ARGUMENTS…` and return what it printed."""

    def command(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A tokenizer of ten words; the first is special and ends a text."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[eos]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[eos]"])
    directory = tmp_path / "words"
    directory.mkdir()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"eos_token": "[eos]"}')
    return directory


@pytest.fixture
def counts(tmp_path: Path, words: Path, vocabtrim: Command) -> Path:
    """Counts of two short documents: the ×3, cat ×2, sat, mat, dog ×1."""
    (tmp_path / "text.jsonl").write_text(
        '{"text": "the cat sat the mat"}\n{"text": "the cat dog"}\n'
    )
    output = tmp_path / "counts.safetensors"
    assert vocabtrim("count", tmp_path / "text.jsonl", "-t", words, "-o", output).code == 0
    return output
