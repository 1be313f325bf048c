"""`vocabtrim eval` as a user meets it, on a tiny pair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.tiny import V, tiny_eagle3
from tests.tiny_models import write_target
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.decode import chain
from vocabtrim.decode.accept import Verdict, verify_greedy
from vocabtrim.tokens.tokenizer import Tokenizer

KEYS = [
    *("target", "drafter", "family", "V", "K", "gamma", "prompts", "new_tokens", "cycles"),
    *("accepted_histogram", "block_efficiency", "acceptance_rate", "acceptance_by_position"),
    *("c", "c_read", "mbsu", "mbsu_read", "head_params", "head_share", "head_reads_per_cycle"),
    *("memory_delta_bytes", "drafter_params", "target_params", "tokens_per_second", "noise"),
    *("speedup", "lossless", "batch", "sampling", "domains"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `target`, `drafter`, `vocab` and `prompts`."""
    directory = tmp_path_factory.mktemp("eval")
    target = write_target(directory / "target", num_hidden_layers=4)
    tiny_eagle3(directory / "drafter")
    fingerprint = Tokenizer.open(target).fingerprint
    for name, whose in (("vocab", fingerprint), ("foreign", "sha256:" + "0" * 64)):
        vocab = DraftVocab(np.arange(0, V, 2), V, whose)
        write_vocab(directory / name, vocab, inputs={}, options={}, facts={})
    records = [{"prompt": "red green", "domain": "a"}, {"prompt": "one two", "domain": "b"}]
    lines = [json.dumps(record) + "\n" for record in records]
    (directory / "prompts").write_text("".join(lines))
    return directory


def arguments(place: Path, *more: object) -> list[object]:
    return [
        *("eval", place / "prompts", "--target", place / "target"),
        *("--drafter", place / "drafter", "--vocab", place / "vocab"),
        *("--max-new-tokens", 6, *more),
    ]


def test_what_is_printed_and_written(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    outcome = vocabtrim(*arguments(place, "--gamma", "1,2", "--json", tmp_path / "r.json"))
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split()[:4] == ["drafter", "K", "γ", "τ"]
    assert len(lines) == 1 + 5 + 1
    assert all(line.rstrip().endswith("2/2") for line in lines[1:6])
    assert lines[6].startswith("noise of a measurement (A/A): ")
    document = json.loads((tmp_path / "r.json").read_text())
    assert list(document) == ["runs"]
    assert [(run["K"], run["gamma"]) for run in document["runs"]] == [
        (None, 0),
        *[(V, 1), (V // 2, 1), (V, 2), (V // 2, 2)],
    ]
    for run in document["runs"]:
        assert list(run) == KEYS
        assert run["target"] == str(place / "target")
        assert run["lossless"] == {"identical": 2, "rounding": 0, "of": 2}
        assert list(run["domains"]) == ["a", "b"]
        assert list(run["domains"]["a"]) == KEYS


def test_options_reach_the_run(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    outcome = vocabtrim(
        *arguments(place, "--gamma", 2, "--json", "-", "--dtype", "bfloat16", "--raw"),
        *("--timed-prompts", 0, "--limit", 1),
    )
    assert outcome.code == 0, outcome.err
    runs = json.loads(outcome.out)["runs"]
    assert [run["prompts"] for run in runs] == [0, 1, 1]
    assert runs[1]["tokens_per_second"] is None
    assert runs[1]["lossless"] is None
    assert "losslessness is judged in float32 only, so not in bfloat16" in outcome.err


def test_without_a_drafter_the_target_decodes_alone(vocabtrim: Command, place: Path) -> None:
    outcome = vocabtrim("eval", place / "prompts", "-t", place / "target", "--max-new-tokens", 3)
    assert outcome.code == 0, outcome.err
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["drafter", "none", "noise"]


def test_a_difference_is_exit_3_after_the_result_is_written(
    vocabtrim: Command, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(draft: Sequence[int], predicted: Sequence[int], eos: Any) -> Verdict:
        verdict = verify_greedy(draft, predicted, eos)
        if not draft:
            return verdict
        last = (verdict.tokens[-1] + 1) % V
        return Verdict(verdict.drafted, verdict.accepted, (*verdict.tokens[:-1], last))

    monkeypatch.setattr(chain, "verify_greedy", wrong)
    outcome = vocabtrim(*arguments(place, "--json", tmp_path / "r.json"))
    assert outcome.code == 3
    assert "texts differ from the target's own by more than rounding" in outcome.err
    assert f"K={V // 2} gamma=4" in outcome.err
    assert "Traceback" not in outcome.err
    runs = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert [run["lossless"]["identical"] for run in runs] == [2, 0, 0]
    assert "0/2" in outcome.out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--gamma", "1;2"], "--gamma takes numbers with commas, found '1;2'"),
        (["--gamma", "-1"], "gamma of 0 or more"),
        (["--max-new-tokens", "0"], "max_new_tokens must be at least 1, found 0"),
        (["--timed-prompts", "-1"], "timed_prompts must be 0 or more"),
        (["--dtype", "int3"], "dtype must be one of"),
        (["--drafter", "nowhere"], "'nowhere' is neither a directory"),
        (["--vocab", "nowhere"], "nowhere"),
        (["--vocab", "FOREIGN"], "made with another tokenizer"),
    ],
)
def test_bad_input_is_one_sentence(
    vocabtrim: Command, place: Path, more: list[str], says: str
) -> None:
    given = [str(place / "foreign") if one == "FOREIGN" else one for one in more]
    outcome = vocabtrim(*arguments(place, *given))
    assert outcome.code == 2
    assert says in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err


def test_a_result_is_not_overwritten(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("mine")
    outcome = vocabtrim(*arguments(place, "--json", tmp_path / "r.json"))
    assert outcome.code == 2
    assert (tmp_path / "r.json").read_text() == "mine"
