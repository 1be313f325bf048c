"""What a drafter writes on its own, against the model it is and the layer it has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tiny_models import V, random_ids, tiny_model
from tests.tiny_pairs import (
    LAYERS,
    eagle_drafter,
    fresh_features,
    lm_drafter,
    markov_pair,
    vocabulary,
)
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.batch import Completion, Request, generate_batched
from vocabtrim.decode.drafting import generate_drafted
from vocabtrim.decode.sampling import Sampling, choose, draw

MODEL = tiny_model()
GREEDY = Sampling()
SAMPLED = Sampling(temperature=1.0, top_p=0.9, seed=4)
REQUESTS = [Request(f"p{n}", tuple(random_ids(2 + n, seed=n)), 20) for n in range(6)]


def written(
    drafter: Any, sampling: Sampling, requests: list[Request] = REQUESTS, model: Any = MODEL
) -> dict[str, Completion]:
    completions = generate_drafted(model, drafter, requests, sampling=sampling, batch_size=4)
    return {one.key: one for one in completions}


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_an_independent_drafter_answers_as_the_model_that_it_is(sampling: Sampling) -> None:
    own = tiny_model(seed=1)
    drafter = lm_drafter(own, vocabulary(V))
    expected = generate_batched(own, REQUESTS, sampling=sampling, batch_size=4)
    assert written(drafter, sampling) == {one.key: one for one in expected}


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_an_independent_drafter_writes_over_its_draft_vocabulary(sampling: Sampling) -> None:
    own, vocab = tiny_model(seed=1), vocabulary(20)
    for request in REQUESTS:
        answer = written(lm_drafter(own, vocab), sampling, [request])[request.key]
        ids = list(request.prompt_ids)
        for position, token in enumerate(answer.token_ids):
            with torch.no_grad():
                logits = own(torch.tensor([ids])).logits[0, -1:, torch.from_numpy(vocab.ids.copy())]
            draws = [draw(sampling.seed, request.key, position)]
            assert token == vocab.ids[choose(logits, sampling, draws)[0]]
            ids.append(token)


@pytest.mark.parametrize("size", [V, 30])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_eagle3_goes_on_alone_after_the_target_s_first_token(size: int, sampling: Sampling) -> None:
    vocab = vocabulary(size)
    for request in REQUESTS:
        answer = written(eagle_drafter(MODEL, vocab), sampling, [request])[request.key]
        first, *rest = answer.token_ids
        with torch.no_grad():
            logits = MODEL(torch.tensor([request.prompt_ids])).logits[:, -1]
        assert first == choose(logits, sampling, [draw(sampling.seed, request.key, 0)])[0]
        # `follow` reads the same drafts from the same pairs, in a way of its own
        other = eagle_drafter(MODEL, vocab)
        known = [*request.prompt_ids, first]
        other.begin(len(known) + 20)
        other.commit(known, fresh_features(MODEL, request.prompt_ids, LAYERS))
        if sampling.greedy and rest:
            assert rest == other.propose(len(rest))
        states = other.follow(rest)[:-1]
        for position, (state, token) in enumerate(zip(states, rest, strict=True), 1):
            draws = [draw(sampling.seed, request.key, position)]
            row = choose(other.head.logits(state)[None], sampling, draws)[0]
            assert token == vocab.ids[row]


def test_an_eagle3_drafter_that_is_always_right_writes_the_target_s_text() -> None:
    model, drafter = markov_pair(vocabulary(V))
    expected = generate_batched(model, REQUESTS, sampling=GREEDY, batch_size=4)
    assert written(drafter, GREEDY, model=model) == {one.key: one for one in expected}


@pytest.mark.parametrize("make", [eagle_drafter, lm_drafter])
def test_a_draw_depends_on_seed_key_and_position_alone(make: Any) -> None:
    alone = {
        key: one
        for request in REQUESTS
        for key, one in written(make(MODEL, vocabulary(V)), SAMPLED, [request]).items()
    }
    drafter = make(MODEL, vocabulary(V))
    assert written(drafter, SAMPLED, REQUESTS[::-1]) == alone
    assert written(drafter, SAMPLED, REQUESTS[::-1]) == alone
    other = written(drafter, Sampling(temperature=1.0, top_p=0.9, seed=5))
    assert other != alone


def test_eagle3_stops_at_the_target_s_eos_and_at_the_context() -> None:
    model, drafter = markov_pair(vocabulary(V))
    request = Request("p", (5, 6), 40)
    text = written(drafter, GREEDY, [request], model)["p"].token_ids
    assert len(text) == 40
    model.generation_config.eos_token_id = text[7]
    stopped = written(drafter, GREEDY, [request], model)["p"]
    assert (stopped.token_ids, stopped.finish_reason) == (text[:8], "stop")
    model.generation_config.eos_token_id = text[0]
    assert written(drafter, GREEDY, [request], model)["p"].token_ids == text[:1]
    model.generation_config.eos_token_id = None
    long = Request("long", tuple(random_ids(250)), 40)
    cut = written(drafter, GREEDY, [long], model)["long"]
    assert (len(cut.token_ids), cut.finish_reason) == (6, "length")


def test_a_prompt_of_one_token_is_enough() -> None:
    answer = written(eagle_drafter(MODEL, vocabulary(V)), GREEDY, [Request("p", (7,), 5)])["p"]
    assert 1 <= len(answer.token_ids) <= 5


def test_unrolling_leaves_the_committed_pairs() -> None:
    drafter = eagle_drafter(MODEL, vocabulary(V))
    prompt = random_ids(9)
    drafter.begin(40)
    drafter.commit([*prompt, 5], fresh_features(MODEL, prompt, LAYERS))
    before = drafter.propose(4)
    unrolling = drafter.unroll(lambda logits: int(logits.argmax()))
    assert [next(unrolling) for _ in range(4)] == before
    unrolling.close()
    assert drafter.cache.lengths == (len(prompt),)
    assert drafter.propose(4) == before


def test_a_prompt_that_does_not_fit_is_named_before_anything_is_written() -> None:
    long = Request("long", tuple(random_ids(300)), 5)
    for make in (eagle_drafter, lm_drafter):
        with pytest.raises(DecodeError, match=r"prompt long.* has 300 tokens"):
            next(
                iter(
                    generate_drafted(
                        MODEL,
                        make(MODEL, vocabulary(V)),
                        [*REQUESTS, long],
                        sampling=GREEDY,
                        batch_size=4,
                    )
                )
            )


def test_other_drafters_do_not_write() -> None:
    class Guesser:
        head = None

    guesser: Any = Guesser()
    with pytest.raises(DecodeError, match="a Guesser does not write text on its own"):
        written(guesser, GREEDY)
