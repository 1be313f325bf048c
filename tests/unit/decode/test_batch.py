from __future__ import annotations

from typing import Any

import pytest

from tests.tiny_models import KINDS, V, random_ids, reference_greedy, tiny_model
from tests.tiny_pairs import eagle_drafter, lm_drafter, vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode import batch
from vocabtrim.decode.batch import Completion, Request, generate_batched
from vocabtrim.decode.sampling import Sampling
from vocabtrim.decode.text import Text

GREEDY = Sampling()


def request(index: int, length: int, room: int = 20) -> Request:
    return Request(f"p{index}", tuple(random_ids(length, seed=index)), room)


def run(model: object, requests: list[Request], **options: object) -> dict[str, Completion]:
    settings = {"sampling": GREEDY, "batch_size": 4} | options
    done = list(generate_batched(model, requests, **settings))  # type: ignore[arg-type]
    assert sorted(one.key for one in done) == sorted(one.key for one in requests)
    return {one.key: one for one in done}


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_is_that_of_generate(kind: str) -> None:
    model = tiny_model(kind)
    # uneven lengths and rooms: rows end, are refilled and close up at different times
    requests = [request(i, 1 + (7 * i) % 23, room=1 + (5 * i) % 31) for i in range(9)]
    done = run(model, requests)
    for one in requests:
        expected = reference_greedy(model, list(one.prompt_ids), one.max_new_tokens)
        assert list(done[one.key].token_ids) == expected, one.key


def test_reasons_and_eos() -> None:
    model = tiny_model()
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = None
    plain = run(model, [request(0, 5)])["p0"]
    assert plain.finish_reason == "length"
    assert len(plain.token_ids) == 20
    # the fourth token as an EOS id: the text ends there, with it
    model.generation_config.eos_token_id = [2, plain.token_ids[3]]
    first = plain.token_ids.index(plain.token_ids[3])
    ended = run(model, [request(0, 5)])["p0"]
    assert ended.finish_reason == "stop"
    assert ended.token_ids == plain.token_ids[: first + 1]


def test_the_cache_is_split_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("gemma3", eos_token_id=None)
    requests = [request(i, 1 + (7 * i) % 23, room=12) for i in range(7)]
    expected = run(model, requests, batch_size=2)
    monkeypatch.setattr(batch, "CACHE_TOKENS", 64)
    assert run(model, requests) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["eagle3", "independent"])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(1.0, top_k=20, seed=5)], ids=str)
def test_drafts_of_ragged_rows_change_no_text(kind: str, family: str, sampling: Sampling) -> None:
    # each row keeps another number of drafts; in float64, so that no rounding decides
    model = tiny_model(kind).double()
    drafter: Any = (eagle_drafter if family == "eagle3" else lm_drafter)(model, vocabulary(60))
    requests = [request(i, 1 + (7 * i) % 23, room=1 + (5 * i) % 31) for i in range(9)]
    options = {"sampling": sampling, "drafter": drafter, "gamma": 3}
    alone = run(model, requests, batch_size=1, **options)
    assert run(model, requests, batch_size=4, **options) == alone
    assert run(model, requests, batch_size=9, **options) == alone
    for one in requests if sampling.greedy else ():
        expected = reference_greedy(model, list(one.prompt_ids), one.max_new_tokens)
        assert list(alone[one.key].token_ids) == expected


def test_a_sample_depends_on_its_seed_and_key_alone() -> None:
    model = tiny_model()
    sampling = Sampling(temperature=1.0, top_p=0.9, seed=3)
    requests = [request(i, 3 + i) for i in range(6)]
    together = run(model, requests, sampling=sampling, batch_size=6)
    for one in requests:
        assert run(model, [one], sampling=sampling)[one.key] == together[one.key]
    other = run(model, requests, sampling=Sampling(temperature=1.0, top_p=0.9, seed=4))
    assert other != together
    renamed = Request("q", requests[0].prompt_ids, 20)
    again = run(model, [renamed], sampling=sampling)["q"]
    assert again.token_ids != together["p0"].token_ids


def test_text_stops_where_the_context_ends() -> None:
    model = tiny_model(max_position_embeddings=16, eos_token_id=None)
    done = run(model, [request(0, 10, room=50)])["p0"]
    assert (len(done.token_ids), done.finish_reason) == (6, "length")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Request("a", (), 4), "no tokens"),
        (Request("a", (5,) * 16, 4), "context is 16"),
        (Request("a", (5,), 0), "at least 1"),
        (Request("a", (5, V), 4), r"outside \[0, 96\)"),
        (Request("a", (-1, 5), 4), r"outside \[0, 96\)"),
    ],
)
def test_what_cannot_be_generated_is_refused_before_anything_runs(
    bad: Request, message: str
) -> None:
    model = tiny_model(max_position_embeddings=16)
    with pytest.raises(DecodeError, match=message):
        next(generate_batched(model, [request(0, 3), bad], sampling=GREEDY, batch_size=2))


def test_bands_keep_one_long_prompt_from_widening_all() -> None:
    requests = [request(i, 10) for i in range(5)] + [request(9, 5000)]
    bands = list(batch._bands([Text(one, one.max_new_tokens) for one in requests]))
    assert [len(band) for band in bands] == [5, 1]
