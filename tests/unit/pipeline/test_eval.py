"""`eval` on tiny models: what runs, what is compared, and how a fault is reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import H, V, edit, tiny_eagle3, tiny_lm
from tests.tiny_models import tiny_model, write_target, write_tokenizer
from vocabtrim.core.errors import CheckpointError, DecodeError, TokenizerMismatch, VocabError
from vocabtrim.core.metrics import mbsu
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode import chain
from vocabtrim.decode.accept import Verdict, verify_greedy
from vocabtrim.families.base import family_of
from vocabtrim.pipeline import eval as module
from vocabtrim.pipeline.eval import Contender, EvalResult, evaluate
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.causal import target_cost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tokens.prompts import Prompt
from vocabtrim.tokens.tokenizer import Tokenizer

PART = DraftVocab(np.arange(0, V, 2), V)
K = PART.size
PROMPTS = [
    Prompt(f"p{index}", ({"role": "user", "content": text},), domain)
    for index, (text, domain) in enumerate(
        [("red green", "colours"), ("one two three", "numbers"), ("blue", "colours"), ("two", None)]
    )
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("target"), num_hidden_layers=4)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target itself, a little out of tune, so that some drafts are right."""
    model = tiny_model(num_hidden_layers=4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.1 * weight.std() * noise)
    directory = tmp_path_factory.mktemp("lm")
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def eagle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_eagle3(tmp_path_factory.mktemp("eagle"))


def run(
    target: Path, contenders: Sequence[Contender], *, prompts: Any = PROMPTS, **options: Any
) -> EvalResult:
    settings: dict[str, Any] = {"gammas": [3], "max_new_tokens": 8, "target_name": "T"}
    return evaluate(prompts, target, contenders, **(settings | options))


@pytest.fixture(scope="module")
def result(target: Path, lm: Path, eagle: Path) -> EvalResult:
    contenders = [
        Contender("E", eagle),
        Contender("E", eagle, PART),
        Contender("L", lm),
        Contender("L", lm, PART),
    ]
    return run(target, contenders, gammas=[3, 1, 3], repeat=2)


def test_runs_in_order(result: EvalResult) -> None:
    assert [(one.drafter, one.K, one.gamma) for one in result.runs] == [
        (None, None, 0),
        *[("E", V, 1), ("E", K, 1), ("L", V, 1), ("L", K, 1)],
        *[("E", V, 3), ("E", K, 3), ("L", V, 3), ("L", K, 3)],
    ]
    assert [one.family for one in result.runs[:5]] == [None, *["eagle3"] * 2, *["independent"] * 2]
    assert {(one.target, one.V, one.prompts) for one in result.runs} == {("T", V, 4)}


def test_contenders_may_have_draft_lengths_of_their_own(target: Path, lm: Path) -> None:
    contenders = [Contender("A", lm, gammas=(1,)), Contender("B", lm, gammas=(3, 1))]
    found = run(target, [*contenders, Contender("C", lm)], gammas=[1, 2, 3], max_new_tokens=3)
    assert [(one.drafter, one.gamma) for one in found.runs[1:]] == [
        ("A", 1), ("B", 1), ("C", 1), ("C", 2), ("B", 3), ("C", 3),
    ]  # fmt: skip


def test_every_text_is_the_targets_own(result: EvalResult) -> None:
    assert result.is_lossless is True
    assert result.different == {}
    assert result.warnings == ()
    for one in result.runs:
        assert one.lossless is not None
        assert one.lossless["identical"] + one.lossless["rounding"] == one.lossless["of"] == 4
        assert one.new_tokens == result.runs[0].new_tokens


def test_some_drafts_are_right_and_some_are_not(result: EvalResult) -> None:
    for one in result.runs:
        if one.drafter == "L":
            assert one.acceptance_rate is not None
            assert 0 < one.acceptance_rate < 1


def test_values_follow_from_the_counts_and_the_checkpoints(
    result: EvalResult, target: Path, lm: Path, eagle: Path
) -> None:
    opened = {"E": Checkpoint.open(eagle), "L": Checkpoint.open(lm)}
    verifier = Checkpoint.open(target)
    step = target_cost(verifier)
    for one in result.runs:
        assert one.target_params == step.params
        assert len(one.accepted_histogram) == one.gamma + 1
        assert sum(one.accepted_histogram) == one.cycles
        assert one.block_efficiency == (one.new_tokens - one.prompts) / one.cycles
        if one.drafter is None:
            continue
        checkpoint = opened[one.drafter]
        cost = family_of(checkpoint).cost(checkpoint, verifier)
        rows = one.K or 0
        assert one.head_params == rows * H
        assert one.drafter_params == cost.params - (V - rows) * H
        assert one.c == one.drafter_params / step.params
        read = cost.step_bytes - 4 * (V - rows) * H + cost.cycle_bytes / one.gamma
        assert one.c_read == pytest.approx(read / step.step_bytes)
        assert one.head_share == pytest.approx(4 * rows * H / read)
        assert one.mbsu == pytest.approx(mbsu(one.block_efficiency, one.c, one.gamma))
        assert one.mbsu_read == pytest.approx(mbsu(one.block_efficiency, one.c_read, one.gamma))
        assert one.head_reads_per_cycle == one.gamma


def test_a_shared_head_is_copied_and_an_own_one_shrinks(result: EvalResult) -> None:
    moved = {(one.drafter, one.K): one.memory_delta_bytes for one in result.runs}
    # the eagle's head is the target's; the tiny LM is not tied
    assert moved == {
        (None, None): None,
        ("E", V): 0,
        ("E", K): 4 * K * H,
        ("L", V): 0,
        ("L", K): -4 * (V - K) * H,
    }


def test_all_ids_of_a_shared_head_need_no_copy(target: Path, eagle: Path, tmp_path: Path) -> None:
    tied = tiny_lm(tmp_path / "tied", layers=1)
    contenders = [
        Contender("E", eagle, DraftVocab.full(V)),
        Contender("tied", tied, DraftVocab.full(V)),
        Contender("tied", tied, PART),
    ]
    moved = [one.memory_delta_bytes for one in run(target, contenders).runs[1:]]
    assert moved == [0, 0, 4 * K * H]


def test_domains(result: EvalResult) -> None:
    for one in result.runs:
        parts = one.domains
        assert list(parts) == ["colours", "numbers"]
        assert [part.prompts for part in parts.values()] == [2, 1]
        assert sum(part.new_tokens for part in parts.values()) < one.new_tokens
        assert all(part.lossless for part in parts.values())
    document = result.to_json()
    assert list(document) == ["runs"]
    assert list(document["runs"][1]["domains"]["numbers"]) == list(document["runs"][1])
    json.dumps(document)


def test_speed_has_a_yardstick_and_a_noise(result: EvalResult) -> None:
    plain = result.runs[0]
    assert plain.speedup == 1.0
    assert plain.noise is not None
    assert plain.noise >= 0
    for one in result.runs:
        assert one.tokens_per_second is not None
        assert one.speedup == one.tokens_per_second / (plain.tokens_per_second or 0)
    assert result.lines()[-1] == f"noise of a measurement (A/A): {plain.noise:.1%}"


def test_trimmed_on_disk_is_the_same_arm_as_trimmed_in_memory(
    result: EvalResult, target: Path, eagle: Path, tmp_path: Path
) -> None:
    trim(eagle, PART, tmp_path / "out", target=target)
    one = run(target, [Contender("E", tmp_path / "out", memory_delta_bytes=4 * K * H)]).runs[1]
    other = next(run for run in result.runs if (run.drafter, run.K, run.gamma) == ("E", K, 3))
    timed = {"tokens_per_second", "noise", "speedup", "domains"}
    documents = [{k: v for k, v in run.to_json().items() if k not in timed} for run in (one, other)]
    assert documents[0] == documents[1]


def test_only_the_first_prompts_are_timed(target: Path, lm: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = run(
        target,
        [Contender("L", lm)],
        timed_prompts=1,
        repeat=3,
        progress=lambda done, of: seen.append((done, of)),
    )
    plain, drafted = result.runs
    assert (plain.prompts, drafted.prompts) == (1, 4)
    assert plain.lossless is not None
    assert plain.lossless["of"] == 1
    # the plain arm runs twice, the drafter once, three times over; then 3 texts untimed
    assert seen == [(done, 12) for done in range(1, 13)]
    untimed = run(target, [Contender("L", lm)], timed_prompts=0)
    assert [one.prompts for one in untimed.runs] == [0, 4]
    assert [one.tokens_per_second for one in untimed.runs] == [None, None]
    assert untimed.runs[0].noise is None
    assert untimed.lines()[-1] == ""
    assert untimed.is_lossless is True
    many = run(target, [], timed_prompts=99)
    assert many.runs[0].prompts == 4


def test_arms_take_turns(target: Path, lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    original = chain.speculate_together

    def noted(target: Any, drafter: Any, requests: Any, *, gamma: int, **options: Any) -> Any:
        if requests[0].max_new_tokens == 8:
            order.append(gamma)
        return original(target, drafter, requests, gamma=gamma, **options)

    monkeypatch.setattr(chain, "speculate_together", noted)
    run(target, [Contender("L", lm)], gammas=[1, 2], prompts=PROMPTS[:3])
    # the plain arm twice in a row (A/A), and another arm first each time
    assert order == [0, 0, 1, 2, 1, 2, 0, 0, 2, 0, 0, 1]


def test_speed_and_noise_are_what_the_clock_says(
    target: Path, lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = chain.speculate_together
    # seconds a text: the plain arm and its twin, four prompts, then all again
    plain_s = iter([1.0, 0.8] * 4 + [2.0, 1.0] * 4)

    def clocked(target: Any, drafter: Any, requests: Any, **options: Any) -> Any:
        (text,) = original(target, drafter, requests, **options)
        if requests[0].max_new_tokens != 8:
            return [text]
        return [replace(text, decode_s=0.5 if drafter else next(plain_s))]

    monkeypatch.setattr(chain, "speculate_together", clocked)
    plain, drafted = run(target, [Contender("L", lm)], repeat=2).runs
    tokens = plain.new_tokens - plain.prompts
    assert plain.tokens_per_second == pytest.approx((tokens / 4 + tokens / 8) / 2)
    assert drafted.tokens_per_second == pytest.approx(tokens / 2)
    assert drafted.speedup == pytest.approx(8 / 3)
    # 0.8 against 1 second first, then twice as long as its twin
    assert plain.noise == drafted.noise == pytest.approx(0.5)


def plant(monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
    """Let the loop emit one wrong token in the cycles that draft `at` tokens."""

    def wrong(draft: Sequence[int], predicted: Sequence[int], eos: Any) -> Verdict:
        verdict = verify_greedy(draft, predicted, eos)
        if len(draft) != at:
            return verdict
        last = (verdict.tokens[-1] + 1) % V
        return Verdict(verdict.drafted, verdict.accepted, (*verdict.tokens[:-1], last))

    monkeypatch.setattr(chain, "verify_greedy", wrong)


def test_a_wrong_token_is_no_rounding(
    target: Path, lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, at=3)
    result = run(target, [Contender("L", lm), Contender("L", lm, PART)])
    assert result.is_lossless is False
    assert [one.lossless for one in result.runs] == [
        {"identical": 4, "rounding": 0, "of": 4},
        {"identical": 0, "rounding": 0, "of": 4},
        {"identical": 0, "rounding": 0, "of": 4},
    ]
    assert result.different == {
        f"L K={V} gamma=3": ["p0", "p1", "p2", "p3"],
        f"L K={K} gamma=3": ["p0", "p1", "p2", "p3"],
    }
    assert f"L K={V} gamma=3: p0, p1, p2, p3" in result.difference()


def test_one_rounding_passes_and_two_do_not(
    target: Path, lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocabtrim.decode import lossless

    verdicts = iter([lossless.Tally(rounding=1)] * 2 + [lossless.Tally(identical=1)] * 2)
    found: dict[Any, Any] = {}

    def judged(tokens: Any, expected: Any, noise: float) -> Any:
        if id(expected) not in found:
            found[id(expected)] = next(verdicts)
        return found[id(expected)]

    monkeypatch.setattr(lossless, "judge", judged)
    result = run(target, [Contender("L", lm)])
    assert result.is_lossless is False
    assert result.different == {}
    assert "too many prompts differ by rounding" in result.difference()
    assert result.runs[1].lossless == {"identical": 2, "rounding": 2, "of": 4}
    found.clear()
    verdicts = iter([lossless.Tally(rounding=1)] + [lossless.Tally(identical=1)] * 3)
    assert run(target, [Contender("L", lm)]).is_lossless is True


def test_the_noise_is_that_of_passes_over_the_longest_draft(
    target: Path, lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocabtrim.decode import lossless

    given: list[tuple[int, int]] = []
    judged: list[float] = []

    def noise(_target: Any, ids: Any, _expected: Any, gamma: int) -> float:
        given.append((len(ids), gamma))
        return float(len(given) % 3)

    original = lossless.judge

    def judge(tokens: Any, expected: Any, noise: float) -> Any:
        judged.append(noise)
        return original(tokens, expected, noise)

    monkeypatch.setattr(lossless, "pass_noise", noise)
    monkeypatch.setattr(lossless, "judge", judge)
    monkeypatch.setattr(module, "NOISE_PROMPTS", 3)
    run(target, [Contender("L", lm)], gammas=[1, 5, 2])
    assert [gamma for _, gamma in given] == [5, 5, 5]
    assert set(judged) == {2.0}


def test_bfloat16_is_timed_but_not_judged(target: Path, lm: Path) -> None:
    result = run(target, [Contender("L", lm)], dtype="bfloat16", prompts=PROMPTS[:1])
    assert result.is_lossless is None
    assert result.warnings == ("losslessness is judged in float32 only, so not in bfloat16",)
    assert [one.lossless for one in result.runs] == [None, None]
    cost = target_cost(Checkpoint.open(target), itemsize=2)
    checkpoint = Checkpoint.open(lm)
    read = family_of(checkpoint).cost(checkpoint, None, itemsize=2).step_bytes
    assert result.runs[1].c_read == pytest.approx(read / cost.step_bytes)


def test_sampled_texts_are_timed_and_counted_but_not_compared(target: Path, lm: Path) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "top_k": 30, "top_p": 0.9}
    contenders = [Contender("L", lm), Contender("L", lm, PART)]
    first, again, other = (
        run(target, contenders, **options, seed=seed, timed_prompts=1) for seed in (3, 3, 4)
    )
    assert first.is_lossless is None
    assert first.different == {}
    assert first.warnings == (
        "sampled texts are not compared: they differ from arm to arm by chance",
    )
    for one in first.runs:
        assert one.lossless is None
        assert one.sampling == {"temperature": 1.0, "top_k": 30, "top_p": 0.9, "seed": 3}
    assert 0 < (first.runs[1].acceptance_rate or 0) < 1
    histograms = [[one.accepted_histogram for one in found.runs] for found in (first, again, other)]
    assert histograms[0] == histograms[1] != histograms[2]
    json.dumps(first.to_json())


def test_prompts_decoded_side_by_side_give_the_same_texts(
    result: EvalResult, target: Path, lm: Path, eagle: Path
) -> None:
    seen: list[tuple[int, int]] = []
    contenders = [Contender("E", eagle, PART), Contender("L", lm)]
    options: dict[str, Any] = {"batch": 3, "repeat": 2, "timed_prompts": 2}
    together = run(target, contenders, **options, progress=lambda done, of: seen.append((done, of)))
    assert together.is_lossless is True
    for one in together.runs[1:]:
        alone = next(
            other
            for other in result.runs
            if (other.drafter, other.K, other.gamma) == (one.drafter, one.K, one.gamma)
        )
        assert one.accepted_histogram == alone.accepted_histogram
        assert (one.batch, alone.batch) == (3, 1)
        assert (one.sampling, one.prompts) == (None, 4)
    # two timed prompts, twice, by two arms and twice the plain one; then two more by two arms
    assert seen == [(done, 20) for done in range(1, 21)]


def test_gamma_0_leaves_the_plain_arm_alone(target: Path, lm: Path) -> None:
    result = run(target, [Contender("L", lm)], gammas=[0], prompts=PROMPTS[:1])
    assert [one.drafter for one in result.runs] == [None]
    assert result.is_lossless is True


def test_a_vocabulary_of_one_id(target: Path, lm: Path, eagle: Path) -> None:
    one = DraftVocab.from_ids([7], V)
    result = run(target, [Contender("E", eagle, one), Contender("L", lm, one)])
    assert result.is_lossless is True
    assert [arm.K for arm in result.runs] == [None, 1, 1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompts": []}, "eval needs a prompt"),
        ({"repeat": 0}, "a repeat and a batch of 1 or more"),
        ({"batch": 0}, "a repeat and a batch of 1 or more"),
        ({"temperature": -1.0}, "temperature must be 0 or more, found -1.0"),
        ({"temperature": 1.0, "top_p": 2.0}, r"top_p must lie in \(0, 1\], found 2.0"),
        ({"gammas": []}, "gamma of 0 or more"),
        ({"gammas": [2, -1]}, "gamma of 0 or more"),
        ({"timed_prompts": -1}, "timed_prompts must be 0 or more, found -1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, found 0"),
        ({"dtype": "int3"}, "dtype must be one of"),
    ],
)
def test_options_out_of_range(target: Path, lm: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        run(target, [Contender("L", lm)], **options)


def test_a_prompt_beyond_the_context(target: Path, lm: Path) -> None:
    long = Prompt("long", ({"role": "user", "content": "red " * 300},))
    with pytest.raises(DecodeError, match=r"30\d tokens, but the model's context is 256"):
        run(target, [Contender("L", lm)], prompts=[long])


def test_another_tokenizer_is_refused(target: Path, lm: Path, tmp_path: Path) -> None:
    own = Tokenizer.open(target).fingerprint
    other = "sha256:" + "0" * 64
    with pytest.raises(TokenizerMismatch, match="the draft vocabulary of L was made with another"):
        run(target, [Contender("L", lm, DraftVocab(PART.ids, V, other))])
    assert run(target, [Contender("L", lm, DraftVocab(PART.ids, V, own))]).is_lossless
    foreign = write_tokenizer(tiny_lm(tmp_path / "foreign"), chat=False)
    run(target, [Contender("F", foreign)], prompts=PROMPTS[:1])
    text = (foreign / "tokenizer.json").read_text().replace('"green"', '"grey"')
    (foreign / "tokenizer.json").write_text(text)
    with pytest.raises(TokenizerMismatch, match="the drafter of F was made with another tokenizer"):
        run(target, [Contender("F", foreign)])


def test_drafters_that_do_not_fit(target: Path, eagle: Path, tmp_path: Path) -> None:
    with pytest.raises(VocabError, match=f"found 3 to {V}"):
        run(target, [Contender("E", eagle, DraftVocab.from_ids([3, V], V + 1))])
    wider = tiny_eagle3(tmp_path / "wider", hidden=2 * H)
    with pytest.raises(CheckpointError, match="trained for another target"):
        run(target, [Contender("E", wider)])
    deeper = edit(
        tiny_eagle3(tmp_path / "deep"), config={"eagle_aux_hidden_state_layer_ids": [1, 2, 9]}
    )
    with pytest.raises(DecodeError, match="needs hidden state 9, but the target has 0 to 4"):
        run(target, [Contender("E", deeper)])
    with pytest.raises(CheckpointError):
        run(target, [Contender("none", tmp_path / "none")])
