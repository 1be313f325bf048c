from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_eagle3, tiny_lm
from tests.tiny_models import V, write_target
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import ArtifactError, OutputExists, TokenizerMismatch
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import read_trace
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.pipeline.replay import replay_trace
from vocabtrim.pipeline.resolve import open_positions, resolve_trace
from vocabtrim.pipeline.trace import trace
from vocabtrim.pipeline.traced_texts import Asking
from vocabtrim.replay.replay import OpenPositions
from vocabtrim.tokens.tokenizer import fingerprint_of

IDS = range(1, V, 5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pair, counts, a draft vocabulary, and traces of 2 and of V - 1 candidates."""
    directory = tmp_path_factory.mktemp("resolve")
    write_target(directory / "t", num_hidden_layers=4)
    tiny_eagle3(directory / "d")
    tokenizer = fingerprint_of(directory / "t")
    numbers = np.random.default_rng(3).permutation(V) + 1
    counted = TokenCounts(numbers, numbers, V, str(tokenizer))
    write_counts(directory / "counts", counted, inputs={}, options={}, facts={})
    vocab = DraftVocab.from_ids(list(IDS), V, tokenizer)
    write_vocab(directory / "vocab", vocab, inputs={}, options={}, facts={})
    lines = [{"prompt": "red green " * n} for n in (1, 2, 3)]
    (directory / "p").write_text("\n".join(map(json.dumps, lines)))
    for name, width in (("narrow", 2), ("wide", V - 1)):
        asking = Asking([directory / "p"], directory / "t", 12)
        trace(asking, directory / "d", directory / name, gamma=3, width=width)
    return directory


def resolve(place: Path, output: Path, *files: str, **more: Path) -> int:
    given = {"target": place / "t", "drafter": place / "d"} | more
    return resolve_trace(
        place / "narrow", [place / one for one in files], output=output, **given
    ).found


def test_a_vocabulary_is_answered_as_with_all_candidates(place: Path, tmp_path: Path) -> None:
    asked = {"gammas": [1, 2, 3], "vocabs": [place / "vocab"]}
    with pytest.raises(OpenPositions, match="trace again with more --candidates"):
        replay_trace(place / "narrow", **asked)  # type: ignore[arg-type]
    assert resolve(place, tmp_path / "out", "vocab") > 0
    found = replay_trace(tmp_path / "out", **asked).runs  # type: ignore[arg-type]
    assert found == replay_trace(place / "wide", **asked).runs  # type: ignore[arg-type]


def test_counts_ask_for_every_size(place: Path, tmp_path: Path) -> None:
    assert resolve(place, tmp_path / "out", "counts") > 0
    asked = {
        "gammas": [3],
        "counts": place / "counts",
        "sizes": list(range(1, V)),
        "exact": True,
    }
    found = replay_trace(tmp_path / "out", **asked).runs  # type: ignore[arg-type]
    assert found == replay_trace(place / "wide", **asked).runs  # type: ignore[arg-type]


def test_what_is_known_is_not_asked_again(place: Path, tmp_path: Path) -> None:
    first = resolve(place, tmp_path / "out", "counts", "vocab")
    again = resolve_trace(
        tmp_path / "out",
        [place / "counts"],
        place / "absent",  # no model is opened where nothing is open
        place / "absent",
        tmp_path / "again",
    )
    assert (again.found, again.known) == (0, first)
    assert f"besides {first:,} known before" in again.lines()[0]
    assert again.to_json()["resolve"]["known"] == first
    whole, _ = read_trace(tmp_path / "again")
    assert len(open_positions(whole, [place / "counts", place / "vocab"])) == 0


def test_tracing_can_resolve_at_once(place: Path, tmp_path: Path) -> None:
    result = trace(
        Asking([place / "p"], place / "t", 12),
        place / "d",
        tmp_path / "out",
        gamma=3,
        width=2,
        resolve=[place / "counts"],
    )
    assert result.resolved > 0
    assert f"resolved   {result.resolved:,} open positions" in result.lines()
    whole, _ = read_trace(tmp_path / "out")
    assert len(open_positions(whole, [place / "counts"])) == 0


def test_other_models_are_found_out(place: Path, tmp_path: Path) -> None:
    tiny_eagle3(tmp_path / "other", seed=9)
    with pytest.raises(TraceError, match="it was made with others"):
        resolve(place, tmp_path / "out", "counts", drafter=tmp_path / "other")
    assert not (tmp_path / "out").exists()


def test_another_tokenizer_is_refused(place: Path, tmp_path: Path) -> None:
    write_target(tmp_path / "t", num_hidden_layers=4)
    tokenizer = json.loads((tmp_path / "t/tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.get)[-2:]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (tmp_path / "t/tokenizer.json").write_text(json.dumps(tokenizer))
    tiny_lm(tmp_path / "d")
    with pytest.raises(TokenizerMismatch, match="another tokenizer than the trace"):
        resolve(place, tmp_path / "o", "counts", target=tmp_path / "t", drafter=tmp_path / "d")


def test_files_have_to_be_what_they_should(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        resolve(place, tmp_path / "out", "p")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputExists):
        resolve(place, tmp_path / "mine", "counts")
