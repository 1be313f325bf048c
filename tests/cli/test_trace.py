"""`vocabtrim trace` as a user meets it, replayed against `eval`, on a tiny pair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.tiny import V, tiny_eagle3, tiny_lm
from tests.tiny_models import write_target
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.tokens.tokenizer import Tokenizer

WORDS = ("red", "green", "blue", "one", "two", "three")


@pytest.fixture(scope="module", params=["eagle3", "lm"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `target`, `drafter`, `vocab` and `prompts`."""
    directory = tmp_path_factory.mktemp("trace")
    target = write_target(directory / "target", num_hidden_layers=4)
    {"eagle3": tiny_eagle3, "lm": tiny_lm}[request.param](directory / "drafter")
    vocab = DraftVocab(np.arange(0, V, 2), V, Tokenizer.open(target).fingerprint)
    write_vocab(directory / "vocab", vocab, inputs={}, options={}, facts={})
    records = [{"prompt": f"{one} {two}", "domain": one} for one in WORDS for two in WORDS]
    (directory / "prompts").write_text("".join(json.dumps(one) + "\n" for one in records))
    return directory


def tracing(place: Path, output: Path, *more: object) -> list[object]:
    return [
        *("trace", place / "prompts", "-t", place / "target", "-d", place / "drafter"),
        *("-o", output, "--max-new-tokens", 7, "--gamma", 3, *more),
    ]


def test_replay_says_what_eval_measures(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.safetensors"
    outcome = vocabtrim(*tracing(place, path, "--json", tmp_path / "t.json"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("trace      36 answers  →  ")
    told = json.loads((tmp_path / "t.json").read_text())["trace"]
    assert (told["texts"], told["max_gamma"], told["width"]) == (36, 3, 32)
    assert [one.name for one in tmp_path.iterdir() if "trace" in one.name] == [path.name]
    outcome = vocabtrim(
        *("replay", path, "--vocab", place / "vocab", "--gamma", "1-3"),
        *("--json", tmp_path / "r.json"),
    )
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 6
    replayed = json.loads((tmp_path / "r.json").read_text())["replay"]["runs"]
    outcome = vocabtrim(
        *("eval", place / "prompts", "-t", place / "target", "-d", place / "drafter"),
        *("--vocab", place / "vocab", "--gamma", "1,2,3", "--max-new-tokens", 7),
        *("--json", tmp_path / "e.json"),
    )
    runs = json.loads((tmp_path / "e.json").read_text())["runs"]
    trimmed = [run for run in runs if run["K"] == V // 2 and run["gamma"]]
    for found, measured in zip(replayed, trimmed, strict=True):
        for key in ("K", "gamma", "cycles", "accepted_histogram", "block_efficiency"):
            assert found[key] == measured[key]
        assert set(found["domains"]) == set(WORDS)


def test_an_interrupted_trace_goes_on(
    vocabtrim: Command, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vocabtrim.pipeline.traced_texts as module
    from vocabtrim.replay.trace import Tracer

    whole = tmp_path / "whole"
    assert vocabtrim(*tracing(place, whole)).code == 0
    monkeypatch.setattr(module, "TEXTS_A_FILE", 10)
    record, seen = Tracer.trace, []

    def fail(self: Tracer, texts: object) -> object:
        seen.append(texts)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return record(self, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(Tracer, "trace", fail)
    path = tmp_path / "trace"
    assert vocabtrim(*tracing(place, path)).code == 130
    assert not path.exists()
    # another command does not go on with it
    other = vocabtrim(*tracing(place, path, "--candidates", 5))
    assert other.code == 2
    assert "another command began it" in other.err
    monkeypatch.setattr(Tracer, "trace", record)
    outcome = vocabtrim(*tracing(place, path))
    assert outcome.code == 0, outcome.err
    assert "36 answers (20 from an earlier run)" in outcome.out
    assert path.read_bytes() == whole.read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {"whole", "trace"}


def test_a_trace_is_not_replaced(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    assert vocabtrim(*tracing(place, path)).code == 0
    again = vocabtrim(*tracing(place, path))
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "--force" in again.err


def test_open_positions_are_looked_up(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    narrow, whole = tmp_path / "narrow", tmp_path / "whole"
    assert vocabtrim(*tracing(place, narrow, "--candidates", 1)).code == 0
    asked = ("--vocab", place / "vocab", "--gamma", "1-3")
    refused = vocabtrim("replay", narrow, *asked)
    assert refused.code == 2
    assert "positions open under this vocabulary" in refused.err
    outcome = vocabtrim(
        *("trace", narrow, "--resolve", place / "vocab", "-o", whole),
        *("-t", place / "target", "-d", place / "drafter", "--json", tmp_path / "j"),
    )
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "j").read_text())["resolve"]["found"]
    assert outcome.out.startswith(f"resolved   {found} open positions")
    at_once = tmp_path / "at-once"
    more = ("--candidates", 1, "--resolve", place / "vocab")
    assert vocabtrim(*tracing(place, at_once, *more)).code == 0
    answers = [vocabtrim("replay", path, *asked).out for path in (whole, at_once)]
    assert answers[0] == answers[1] != ""
