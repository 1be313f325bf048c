"""`vocabtrim trace --temperature` as a user meets it, replayed and planned, on a tiny pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.tiny import V, tiny_eagle3, tiny_lm
from tests.tiny_models import write_target
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.sampled_trace_file import read_sampled_trace
from vocabtrim.replay.sampled import expected
from vocabtrim.tokens.tokenizer import Tokenizer

WORDS = ("red", "green", "blue", "one", "two", "three")
NUMBERS = np.random.default_rng(4).permutation(V) + 1


@pytest.fixture(scope="module", params=["eagle3", "lm"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `target`, `drafter`, `counts`, `other-counts` and `prompts`."""
    directory = tmp_path_factory.mktemp("trace")
    target = write_target(directory / "target", num_hidden_layers=4)
    {"eagle3": tiny_eagle3, "lm": tiny_lm}[request.param](directory / "drafter")
    tokenizer = Tokenizer.open(target).fingerprint
    for name, numbers in (("counts", NUMBERS), ("other-counts", NUMBERS[::-1])):
        counted = TokenCounts(numbers, numbers, V, tokenizer)
        write_counts(directory / name, counted, inputs={}, options={}, facts={})
    records = [{"prompt": f"{one} {two}", "domain": one} for one in WORDS for two in WORDS]
    (directory / "prompts").write_text("".join(json.dumps(one) + "\n" for one in records))
    return directory


def tracing(place: Path, output: Path, *more: object) -> list[object]:
    return [
        *("trace", place / "prompts", "-t", place / "target", "-d", place / "drafter"),
        *("-o", output, "--max-new-tokens", 7, "--gamma", 3, "--temperature", 0.8),
        *("--counts", place / "counts", *more),
    ]


def document(path: Path, name: str) -> Any:
    return json.loads(path.read_text())[name]


def test_replay_says_what_is_expected(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    sizes = ("--sizes", "20,64", "--exact-k")
    outcome = vocabtrim(*tracing(place, path, *sizes, "--json", tmp_path / "t.json"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("trace      36 sampled answers  →  ")
    told = document(tmp_path / "t.json", "sampled_trace")
    assert (told["sizes"], told["max_gamma"]) == ([20, 64, V], 3)
    assert told["sampling"] == {"temperature": 0.8, "top_k": None, "top_p": None, "seed": 0}
    # of more ids, no draft can be accepted less often at these logits, and some are refused
    assert 0 < told["overlap"][0] < told["overlap"][2] < 1
    assert [one.name for one in tmp_path.iterdir() if "trace" in one.name] == [path.name]

    replayed = vocabtrim("replay", path, "--gamma", "1-3", "--json", tmp_path / "r.json")
    assert replayed.code == 0, replayed.err
    assert replayed.out.startswith("expected block efficiency of ")
    assert "36 prompts, temperature 0.8\n" in replayed.out
    whole = expected(read_sampled_trace(path)[0], [1, 2, 3])
    found = document(tmp_path / "r.json", "replay")["runs"]
    assert len(found) == 9
    for run in found:
        one = whole[run["K"]][run["gamma"] - 1]
        assert run["cycles"] == one.pooled.cycles
        assert run["accepted_histogram"] == one.accepted.sum(axis=0).tolist()
        low, high = run["interval"]
        assert 1 <= low < run["block_efficiency"] < high < 4
        assert set(run["domain_loss"]) == set(WORDS)
    # K as `select` rounds it
    some = vocabtrim("replay", path, "--top-k", "60", "--gamma", "2", "--json", tmp_path / "s.json")
    assert some.code == 0, some.err
    (only,) = document(tmp_path / "s.json", "replay")["runs"]
    assert only in found
    assert only["vocab"] == "counts top 64"


def test_a_plan_is_made_of_it(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    assert vocabtrim(*tracing(place, path, "--sizes", "20", "--exact-k")).code == 0
    given = ("plan", path, "--counts", place / "counts", "--params")
    outcome = vocabtrim(*given, "--json", tmp_path / "p.json")
    assert outcome.code == 0, outcome.err
    assert "expected, from the trace of sampled texts" in outcome.out
    plan = document(tmp_path / "p.json", "plan")
    assert plan["acceptance"] == "sampled trace"
    (batch,) = plan["batches"]
    assert {(one["K"], one["gamma"]) for one in batch["points"]} == {
        (K, gamma) for K in (20, V) for gamma in (1, 2, 3)
    }
    assert {one["domain"] for one in plan["drift"]} == set(WORDS)


def test_an_interrupted_trace_goes_on(
    vocabtrim: Command, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vocabtrim.pipeline.traced_texts as module
    from vocabtrim.replay.sampled_trace import SampledTracer

    whole = tmp_path / "whole"
    assert vocabtrim(*tracing(place, whole)).code == 0
    monkeypatch.setattr(module, "TEXTS_A_FILE", 10)
    record, seen = SampledTracer.trace, []

    def fail(self: SampledTracer, texts: object) -> object:
        seen.append(texts)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return record(self, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(SampledTracer, "trace", fail)
    path = tmp_path / "trace"
    assert vocabtrim(*tracing(place, path)).code == 130
    assert not path.exists()
    # another command does not go on with it
    for more in (("--sizes", "20"), ("--temperature", 0.7)):
        other = vocabtrim(*tracing(place, path, *more))
        assert other.code == 2
        assert "another command began it" in other.err
    for leftover in tmp_path.glob("trace.texts-*"):
        if leftover.name.endswith(".jsonl"):
            leftover.unlink()
    monkeypatch.setattr(SampledTracer, "trace", record)
    outcome = vocabtrim(*tracing(place, path))
    assert outcome.code == 0, outcome.err
    assert "36 sampled answers (20 from an earlier run)" in outcome.out
    assert path.read_bytes() == whole.read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {"whole", "trace"}


def test_faults_are_one_sentence(vocabtrim: Command, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for more, said in (
        (("--resolve", place / "counts"), "takes --counts, and neither --resolve nor --candidates"),
        (("--candidates", "4"), "neither --resolve nor --candidates"),
        (("--temperature", "-1"), "temperature must be 0 or more"),
        (("--top-p", "2"), "top_p must lie in (0, 1]"),
        (("--sizes", "x"), "--sizes takes numbers"),
        (("--counts", tmp_path / "absent"), "absent"),
        (("--temperature", "0"), "--counts is for sampled texts: give --temperature"),
        (("--temperature", "0", "--top-p", "0.9"), "--top-p is for sampled texts"),
    ):
        outcome = vocabtrim(*tracing(place, path, *more))
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert said in outcome.err
    plain = (
        "trace",
        place / "prompts",
        "-t",
        place / "target",
        "-d",
        place / "drafter",
        "-o",
        path,
    )
    for option in (("--seed", "1"), ("--exact-k",), ("--sizes", "20"), ("--top-k", "3")):
        outcome = vocabtrim(*plain, *option)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert f"{option[0]} is for sampled texts" in outcome.err
    assert not list(tmp_path.iterdir())
    assert vocabtrim(*tracing(place, path, "--sizes", "20", "--exact-k")).code == 0
    counts, other = place / "counts", place / "other-counts"
    for command, said in (
        (
            ("replay", path, "--vocab", counts, "--gamma", "2"),
            "answers for the sizes that it was made with (20, ",
        ),
        (
            ("replay", path, "--top-k", "64", "--gamma", "2"),
            f"knows K = 20, {V}, not 64; trace again",
        ),
        (("replay", path, "--counts", other, "--gamma", "2"), "takes ids in another order"),
        (("replay", path, "--gamma", "4"), "draft lengths 0 to 3, asked for 4"),
        (("plan", path, "--counts", other, "--params"), "takes ids in another order"),
        (("plan", path, "--counts", counts, "--params", "--top-k", "64"), "not 64; trace again"),
        (
            ("select", counts, "--rule", "acceptance:k=64", "--trace", path, "-o", "v"),
            "a greedy trace",
        ),
    ):
        outcome = vocabtrim(*command)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert said in outcome.err
