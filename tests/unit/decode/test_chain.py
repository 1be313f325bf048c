"""Speculative text is, token by token, what `generate` says, whoever drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch

from tests.tiny_models import KINDS, V, random_ids, reference_greedy, tiny_model
from tests.tiny_pairs import eagle_drafter, lm_drafter, markov_pair, vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.chain import Generation, new_token_room, speculate
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.target import Target

IDS = random_ids(300, seed=13)


def endless(kind: str = "llama", **changes: Any) -> Any:
    """A model without an EOS."""
    model = tiny_model(kind, eos_token_id=None, **changes)
    model.generation_config.eos_token_id = None
    return model


MODELS = {kind: endless(kind) for kind in KINDS}
EXPECTED = {kind: reference_greedy(MODELS[kind], IDS[:10], 7) for kind in KINDS}


class Oracle:
    """A drafter that knows the text, and is wrong at some places of a draft."""

    feature_layers = ()

    def __init__(self, text: Sequence[int], wrong: Sequence[int] = ()) -> None:
        self.text, self.wrong = list(text), set(wrong)
        self.head = ReducedHead(torch.zeros(V, 1), DraftVocab.full(V))
        self.asked: list[int] = []

    def begin(self, columns: int) -> None:
        self.committed = 0

    def commit(self, token_ids: Sequence[int], features: Any) -> None:
        assert list(token_ids) == self.text[self.committed : self.committed + len(token_ids)]
        self.committed += len(token_ids)

    def propose(self, length: int) -> list[int]:
        self.asked.append(length)
        ahead = (self.text[self.committed :] + [0] * length)[:length]
        return [(one + 1) % V if i in self.wrong else one for i, one in enumerate(ahead)]

    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        raise NotImplementedError


def run(model: Any, drafter: Any, prompt: Sequence[int], gamma: int, budget: int) -> Generation:
    layers = () if drafter is None else drafter.feature_layers
    return speculate(Target(model, layers), drafter, prompt, gamma=gamma, max_new_tokens=budget)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 5, V])
@pytest.mark.parametrize("family", ["eagle3", "independent"])
def test_the_text_is_that_of_generate(kind: str, size: int, family: str) -> None:
    model, vocab = MODELS[kind], vocabulary(size)
    if family == "eagle3":
        drafter: Any = eagle_drafter(model, vocab)
    else:
        drafter = lm_drafter(model, vocab)
    for gamma in range(6):
        for budget in (1, 2, 7):
            text = run(model, drafter, IDS[:10], gamma, budget)
            assert list(text.token_ids) == EXPECTED[kind][:budget]
            assert text.finish_reason == "length"
            assert text.counts.gamma == gamma
            # the first token comes from the prefill, which is no cycle
            assert text.counts.tokens == budget - 1


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_drafter_a_cycle_is_a_token(kind: str) -> None:
    for gamma in (0, 3):
        text = run(MODELS[kind], None, IDS[:10], gamma, 7)
        assert list(text.token_ids) == EXPECTED[kind]
        assert text.counts.cycles == 6
        assert (text.counts.n_drafted, text.counts.gamma) == (0, gamma)


def test_a_long_text_with_partly_accepted_drafts() -> None:
    model, drafter = markov_pair(vocabulary(48))
    expected = reference_greedy(model, IDS[:5], 60)
    for gamma in (1, 4, 100):
        text = run(model, drafter, IDS[:5], gamma, 60)
        assert list(text.token_ids) == expected
        assert 0 < text.counts.n_accepted < text.counts.n_drafted


def test_a_cycle_drafts_what_may_still_be_emitted_before_the_bonus_token() -> None:
    model = MODELS["llama"]
    text = IDS[:10] + reference_greedy(model, IDS[:10], 12)
    right = Oracle(text)
    done = run(model, right, IDS[:10], 4, 12)
    # 11 tokens after the prefill: 5, then 5, then 1 for which nothing is drafted
    assert right.asked == [4, 4]
    assert done.counts.drafted.tolist() == [1, 0, 0, 0, 2]
    assert list(done.token_ids) == text[10:]
    short = Oracle(text)
    done = run(model, short, IDS[:10], 9, 4)
    assert short.asked == [2]
    assert (done.counts.cycles, done.counts.tokens) == (1, 3)
    alone = Oracle(text)
    assert run(model, alone, IDS[:10], 9, 1).counts.cycles == 0
    assert alone.asked == []


@pytest.mark.parametrize("wrong", [[0], [1], [2], [0, 1, 2], []])
def test_wrong_drafts_cost_passes_and_no_token(wrong: list[int]) -> None:
    model = MODELS["gemma3"]
    expected = reference_greedy(model, IDS[:10], 13)
    text = run(model, Oracle(IDS[:10] + expected, wrong), IDS[:10], 3, 13)
    assert list(text.token_ids) == expected
    accepted = min(wrong, default=3)
    assert text.counts.accepted[accepted] == 12 // (accepted + 1)


@pytest.mark.parametrize("place", range(1, 8))
def test_an_eos_inside_a_draft_ends_the_text_and_the_counting(place: int) -> None:
    model = endless()
    text = reference_greedy(model, IDS[:10], 12)
    first = next(i for i in range(place, 12) if text[i] not in text[:i])
    model.generation_config.eos_token_id = text[first]
    expected = reference_greedy(model, IDS[:10], 12)
    assert expected == text[: first + 1]
    done = run(model, Oracle(IDS[:10] + text), IDS[:10], 4, 12)
    assert list(done.token_ids) == expected
    assert done.finish_reason == "stop"
    inside = first % 5  # drafts of the last cycle up to and with the EOS, 0: the bonus token
    assert done.counts.n_drafted == done.counts.n_accepted == first - first // 5
    assert done.counts.drafted[inside or 4] >= 1
    assert done.counts.tokens == first


def test_an_eos_of_the_prefill_leaves_no_cycle() -> None:
    model = endless()
    model.generation_config.eos_token_id = reference_greedy(model, IDS[:10], 1)[0]
    for drafter in (None, lm_drafter(model, vocabulary(V))):
        done = run(model, drafter, IDS[:10], 3, 9)
        assert (len(done.token_ids), done.finish_reason, done.counts.cycles) == (1, "stop", 0)


def test_an_eos_as_the_last_token_of_the_budget_is_a_stop() -> None:
    model = endless()
    text = reference_greedy(model, IDS[:10], 12)
    last = next(i for i in range(3, 12) if text[i] not in text[:i])
    model.generation_config.eos_token_id = text[last]
    assert run(model, None, IDS[:10], 0, last + 1).finish_reason == "stop"
    assert run(model, None, IDS[:10], 0, last).finish_reason == "length"


@pytest.mark.parametrize("family", ["eagle3", "independent"])
def test_the_context_cuts_the_budget(family: str) -> None:
    model = endless(max_position_embeddings=16)
    vocab = vocabulary(V)
    drafter: Any = (eagle_drafter if family == "eagle3" else lm_drafter)(model, vocab)
    done = run(model, drafter, IDS[:12], 5, 100)
    assert len(done.token_ids) == 4
    assert done.finish_reason == "length"
    assert list(done.token_ids) == reference_greedy(model, IDS[:12], 4)
    assert len(run(model, drafter, IDS[:15], 5, 100).token_ids) == 1


def test_room() -> None:
    target = Target(endless(max_position_embeddings=16))
    assert new_token_room(target, 1, 100) == 15
    assert new_token_room(target, 10, 6) == 6
    assert new_token_room(target, 10, 7) == 6
    assert new_token_room(target, 10, 5) == 5
    assert new_token_room(target, 1, 1) == 1
    target.context = None
    assert new_token_room(target, 1000, 100) == 100


@pytest.mark.parametrize(
    ("prompt", "options", "says"),
    [
        ([], {}, "the prompt has no tokens"),
        (IDS[:256], {}, "the prompt has 256 tokens, but the target's context is 256; shorten it"),
        (IDS[:300], {}, "the prompt has 300 tokens, but the target's context is 256; shorten it"),
        ([5, -1], {}, r"id outside \[0, 96\): it was encoded with another tokenizer"),
        ([5, 96], {}, r"id outside \[0, 96\): it was encoded with another tokenizer"),
        ([5], {"gamma": -1}, "gamma must be 0 or more, found -1"),
        ([5], {"max_new_tokens": 0}, "max_new_tokens must be at least 1, found 0"),
    ],
)
def test_what_cannot_be_decoded_is_one_sentence(
    prompt: list[int], options: dict[str, int], says: str
) -> None:
    target = Target(MODELS["llama"])
    settings = {"gamma": 2, "max_new_tokens": 4} | options
    for drafter in (None, lm_drafter(MODELS["llama"], vocabulary(5))):
        with pytest.raises(DecodeError, match=says):
            speculate(target, drafter, prompt, **settings)


def test_the_ends_of_the_id_range_are_ids() -> None:
    for prompt in ([0], [V - 1]):
        expected = reference_greedy(MODELS["llama"], prompt, 3)
        assert list(run(MODELS["llama"], None, prompt, 0, 3).token_ids) == expected


def test_a_drafter_of_more_ids_than_the_target_is_refused() -> None:
    drafter = Oracle([])
    drafter.head = ReducedHead(torch.zeros(2, 1), DraftVocab.from_ids([3, V], V + 1))
    with pytest.raises(DecodeError, match="can propose id 96, but the target has 96 ids"):
        run(MODELS["llama"], drafter, [5], 2, 4)
    # at gamma 0 nothing is drafted
    assert len(run(MODELS["llama"], drafter, [5], 0, 4).token_ids) == 4


def test_at_the_end_the_drafter_knows_the_whole_text() -> None:
    for budget in (1, 2, 5, 6, 12):
        text = IDS[:10] + reference_greedy(MODELS["llama"], IDS[:10], budget)
        oracle = Oracle(text, [2])
        run(MODELS["llama"], oracle, IDS[:10], 3, budget)
        assert oracle.committed == len(text)


def test_a_generation_is_a_value() -> None:
    done = run(MODELS["llama"], None, IDS[:3], 0, 2)
    assert len({done, replace(done)}) == 1


def test_prefill_and_cycles_are_timed_apart() -> None:
    ticks = count(10.0, 1.5)
    done = speculate(
        Target(MODELS["llama"]),
        None,
        IDS[:3],
        gamma=0,
        max_new_tokens=3,
        clock=lambda: next(ticks),
    )
    assert (done.prefill_s, done.decode_s) == (1.5, 1.5)
