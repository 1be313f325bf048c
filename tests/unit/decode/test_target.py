"""Passes, crops and features against one fresh pass of the same model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import KINDS, H, V, random_ids, tiny_model
from tests.tiny_pairs import fresh_features
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.target import Target

IDS = random_ids(80, seed=3)
MODELS = {kind: tiny_model(kind) for kind in KINDS}
ALL = (0, 1, 2)


@torch.no_grad()
def fresh_logits(model: Any, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    return logits


def close(ours: torch.Tensor | None, theirs: torch.Tensor) -> None:
    assert ours is not None
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=8)
@given(
    prompt=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=4),
)
def test_logits_and_features_after_crops_equal_a_fresh_pass(
    kind: str, prompt: int, steps: list[tuple[int, int]]
) -> None:
    model, text = MODELS[kind], IDS[:prompt]
    target = Target(model, ALL)
    target.begin(80)
    reading = target.read(text)
    close(reading.logits, fresh_logits(model, text))
    close(reading.features, fresh_features(model, text, ALL))
    for number, (count, wished) in enumerate(steps):
        new = random_ids(count, seed=number)
        reading = target.read(new)
        text = text + new
        close(reading.logits, fresh_logits(model, text)[-count:])
        close(reading.features, fresh_features(model, text, ALL)[-count:])
        rejected = min(wished, count)
        target.crop([rejected])
        text = text[: len(text) - rejected]
        assert target.lengths == (len(text),)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_hidden_states_that_transformers_numbers(kind: str) -> None:
    model = MODELS[kind]
    expected = model(torch.tensor([IDS[:9]]), output_hidden_states=True).hidden_states
    for order in [(0,), (2, 0), (1, 1, 2)]:
        target = Target(model, order)
        target.begin(9)
        features = target.read(IDS[:9]).features
        assert features is not None
        assert features.shape == (9, len(order) * H)
        for place, index in enumerate(order):
            close(features[:, place * H : (place + 1) * H], expected[index][0])
    # the first one is what goes into the first layer: the embedding itself
    close(expected[0][0], model.get_input_embeddings()(torch.tensor(IDS[:9])))


def test_only_the_last_logits_but_all_features() -> None:
    target = Target(MODELS["llama"], (1,))
    target.begin(9)
    reading = target.read(IDS[:9], last_only=True)
    assert reading.logits.shape == (1, V)
    close(reading.logits, fresh_logits(MODELS["llama"], IDS[:9])[-1:])
    assert reading.features is not None
    assert reading.features.shape == (9, H)


def test_several_texts_are_read_side_by_side() -> None:
    model = MODELS["gemma3"]
    target = Target(model, ALL)
    target.begin(40, 3)
    target.keep(())
    texts = [IDS[:3], IDS[10:25]]
    target.open(2)
    readings = target.read_rows(texts, last_only=True)
    assert readings.logits.shape == (2, 1, V)
    for row, text in enumerate(texts):
        close(readings.of(row).logits, fresh_logits(model, text)[-1:])
        close(readings.of(row).features, fresh_features(model, text, ALL))
    target.open(1)
    texts.append(IDS[30:37])
    # new texts are the last ones
    close(
        target.read_rows(texts[2:], last_only=True).of(0).logits, fresh_logits(model, texts[2])[-1:]
    )
    new = [[5], [6, 7, 8], [9, 10]]
    readings = target.read_rows(new)
    target.crop([0, 2, 1])
    assert target.lengths == (4, 16, 8)
    for row, (text, ids) in enumerate(zip(texts, new, strict=True)):
        close(readings.of(row).logits, fresh_logits(model, text + ids)[-len(ids) :])
        close(readings.of(row).features, fresh_features(model, text + ids, ALL)[-len(ids) :])
    target.keep([0, 2])
    texts = [texts[0] + [5], texts[2] + [9]]
    readings = target.read_rows([[11], [12]])
    for row, text in enumerate(texts):
        close(readings.of(row).logits, fresh_logits(model, [*text, 11 + row])[-1:])


def test_without_layers_there_are_no_features() -> None:
    target = Target(MODELS["llama"])
    target.begin(3)
    assert target.read(IDS[:3]).features is None
    assert target.feature_layers == ()


def test_beginning_again_forgets() -> None:
    target = Target(MODELS["gemma3"])
    target.begin(30)
    target.read(IDS[:20])
    target.begin(10)
    assert target.lengths == (0,)
    close(target.read(IDS[20:25]).logits, fresh_logits(MODELS["gemma3"], IDS[20:25]))


def test_before_it_begins_there_is_room_for_nothing() -> None:
    target = Target(MODELS["llama"])
    assert target.lengths == ()
    with pytest.raises(DecodeError, match="1 texts are to be read and 0 were begun"):
        target.read(IDS[:1])


def test_no_gradient_is_kept() -> None:
    target = Target(MODELS["llama"], (0,))
    target.begin(3)
    reading = target.read(IDS[:3])
    assert not reading.logits.requires_grad
    assert reading.features is not None
    assert not reading.features.requires_grad


def test_what_it_says_of_its_model() -> None:
    model = tiny_model(tie_word_embeddings=False)
    target = Target(model)
    assert target.embedding is model.get_input_embeddings().weight
    assert (target.context, target.eos_ids) == (256, frozenset({2}))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_hidden_state_that_is_not_there(index: int) -> None:
    with pytest.raises(DecodeError, match=f"needs hidden state {index}, but the target has 0 to 2"):
        Target(MODELS["llama"], (0, index))


def test_a_model_that_cannot_be_cropped_is_refused_by_the_type_of_its_layer() -> None:
    model = tiny_model()
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(DecodeError, match="layer 1 is of type linear_attention"):
        Target(model)


def test_ends_are_the_model_s_unless_others_are_given() -> None:
    model = MODELS["llama"]
    assert Target(model).eos_ids == {2}
    assert Target(model, ends=[7, 8, 7]).eos_ids == {7, 8}
    assert Target(model, ends=()).eos_ids == frozenset()
