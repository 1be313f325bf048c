"""The reference is plain greedy decoding, and only rounding passes as rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tiny_models import KINDS, V, random_ids, tiny_model
from vocabtrim.decode.lossless import Reference, Tally, judge, pass_noise, reference
from vocabtrim.decode.target import Target

IDS = random_ids(40, seed=17)
NOISE = 1e-6


@torch.no_grad()
def plain_greedy(model: Any, ids: list[int], count: int, eos: int) -> tuple[int, ...]:
    """Decode by a fresh pass a token and argmax, without `generate`."""
    text: list[int] = []
    while len(text) < count and (not text or text[-1] != eos):
        logits = model(torch.tensor([ids + text]), use_cache=False).logits[0, -1]
        text.append(int(logits.argmax()))
    return tuple(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_plain_greedy_decoding_with_its_logits(kind: str) -> None:
    model = tiny_model(kind)
    found = reference(Target(model), IDS[:12], 15)
    assert found.token_ids == plain_greedy(model, IDS[:12], 15, 2)
    assert found.logits.shape == (len(found.token_ids), V)
    assert found.logits.dtype == torch.float32
    assert tuple(found.logits.argmax(dim=-1).tolist()) == found.token_ids


def test_an_eos_is_part_of_the_text_and_ends_it() -> None:
    model = tiny_model(eos_token_id=None)
    model.generation_config.eos_token_id = None
    whole = reference(Target(model), IDS[:12], 15).token_ids
    assert len(whole) == 15
    model.generation_config.eos_token_id = [whole[6], whole[4]]
    cut = min(whole.index(whole[6]), whole.index(whole[4]))
    assert reference(Target(model), IDS[:12], 15).token_ids == whole[: cut + 1]


def test_settings_of_the_models_own_generation_config_decide_nothing() -> None:
    model = tiny_model()
    plain = reference(Target(model), IDS[:12], 15)
    poisoned = model.generation_config
    poisoned.do_sample = True
    poisoned.temperature = 5.0
    poisoned.top_k = 3
    poisoned.repetition_penalty = 9.0
    poisoned.no_repeat_ngram_size = 1
    poisoned.min_new_tokens = 14
    poisoned.max_length = 3
    poisoned.num_beams = 2
    poisoned.suppress_tokens = list(plain.token_ids[:3])
    poisoned.bad_words_ids = [[plain.token_ids[0]]]
    before = poisoned.to_dict()
    found = reference(Target(model), IDS[:12], 15)
    assert found.token_ids == plain.token_ids
    assert torch.equal(found.logits, plain.logits)
    assert model.generation_config is poisoned
    assert poisoned.to_dict() == before


def test_the_models_generation_config_comes_back_after_a_fault() -> None:
    model = tiny_model()
    kept = model.generation_config
    with pytest.raises(IndexError):
        reference(Target(model), [V + 5], 3)
    assert model.generation_config is kept


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_there_and_small(kind: str) -> None:
    target = Target(tiny_model(kind))
    expected = reference(target, IDS[:12], 15)
    noise = pass_noise(target, IDS[:12], expected, 3)
    assert 0 < noise < 1e-4
    alone = Reference(expected.token_ids[:1], expected.logits[:1])
    assert pass_noise(target, IDS[:12], alone, 3) == 0


@pytest.mark.parametrize("gamma", [0, 1, 3, 30])
def test_noise_is_looked_for_at_every_token_but_the_prefills(gamma: int) -> None:
    target = Target(tiny_model())
    expected = reference(target, IDS[:12], 6)
    assert len(expected.token_ids) == 6
    for place in range(6):
        logits = expected.logits.clone()
        logits[place, 5] -= 3.0
        noise = pass_noise(target, IDS[:12], Reference(expected.token_ids, logits), gamma)
        assert noise == pytest.approx(3.0 if place else 0.0, abs=1e-4)


def planted(margin: float, *, scale: float = 10.0) -> Reference:
    """A reference of three tokens; at the second, id 4 is `margin` below the best, 3."""
    logits = torch.zeros(3, 6)
    logits[0, 1] = logits[2, 5] = scale
    logits[1, 3] = scale
    logits[1, 4] = scale - margin
    return Reference((1, 3, 5), logits)


def test_the_same_tokens_are_identical_however_close_the_call() -> None:
    assert judge([1, 3, 5], planted(0.0), NOISE) == Tally(identical=1)


@pytest.mark.parametrize("tokens", [[1, 3], [1, 3, 5, 5], [1], []])
def test_another_length_is_no_rounding(tokens: list[int]) -> None:
    assert judge(tokens, planted(0.0), 1.0) == Tally(different=1)


def test_a_near_tie_is_rounding_whatever_follows() -> None:
    for tokens in ([1, 4, 5], [1, 4, 0], [1, 4], [1, 4, 5, 5]):
        assert judge(tokens, planted(5e-6), NOISE) == Tally(rounding=1)


def test_a_margin_of_ten_times_the_noise_is_a_difference() -> None:
    assert judge([1, 4, 5], planted(2**-10), 2**-10 / 9) == Tally(rounding=1)
    # below the largest logit 1 the margin is exact in float32
    exact = planted(2**-12, scale=1.0)
    assert judge([1, 4, 5], exact, 2**-12 / 10) == Tally(different=1)
    assert judge([1, 4, 5], exact, 2**-12 / 9.9) == Tally(rounding=1)
    assert judge([1, 4, 5], planted(1.0), NOISE) == Tally(different=1)


def test_our_token_must_be_near_the_best_not_the_best_near_another() -> None:
    # ids 3 and 4 are all but tied, and we said 2
    assert judge([1, 2, 5], planted(1e-7), NOISE) == Tally(different=1)


def test_great_noise_does_not_excuse_more_than_a_thousandth_of_the_scale() -> None:
    assert judge([1, 4, 5], planted(0.0099), 100.0) == Tally(rounding=1)
    assert judge([1, 4, 5], planted(0.0101), 100.0) == Tally(different=1)
    # the scale is that of the largest logit by size, here -20
    reference_ = planted(0.0150)
    reference_.logits[1, 0] = -20.0
    assert judge([1, 4, 5], reference_, 100.0) == Tally(rounding=1)


def test_without_noise_nothing_is_rounding() -> None:
    assert judge([1, 4, 5], planted(0.0), 0.0) == Tally(different=1)


def test_only_the_first_difference_counts() -> None:
    close = planted(5e-6)
    assert judge([0, 4, 5], close, NOISE) == Tally(different=1)
    assert judge([1, 4, 0], close, NOISE) == Tally(rounding=1)


@pytest.mark.parametrize(
    ("identical", "rounding", "different", "lossless"),
    [
        (12, 0, 0, True),
        (11, 1, 0, True),
        (10, 2, 0, False),
        (0, 1, 0, True),
        (98, 2, 0, True),
        (97, 3, 0, False),
        (97, 2, 0, False),
        (99, 0, 1, False),
        (11, 0, 1, False),
        (0, 0, 0, True),
    ],
)
def test_more_than_one_rounding_in_fifty_fails(
    identical: int, rounding: int, different: int, lossless: bool
) -> None:
    tally = Tally(identical, rounding, different)
    assert tally.is_lossless is lossless
    assert tally.of == identical + rounding + different


def test_tallies_are_pooled() -> None:
    assert Tally(1, 2, 3) + Tally(10, 20, 30) == Tally(11, 22, 33)
