from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.sampling import (
    NUCLEUS_GUESS,
    Sampling,
    choose,
    distribution,
    draw,
    draws,
    pick,
)


def logits(rows: int, width: int, *, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, width, generator=generator)


def test_draws_are_even_and_belong_to_their_place() -> None:
    draws = [draw(1, "prompt", position) for position in range(4000)]
    assert all(0.0 <= one < 1.0 for one in draws)
    # the mean of 4000 even draws is within 5 standard deviations but once in 1.7 million
    assert abs(sum(draws) / 4000 - 0.5) < 5 * math.sqrt(1 / 12 / 4000)
    assert draw(1, "prompt", 7) == draws[7]
    others = {draw(2, "prompt", 7), draw(1, "prompt2", 7), draw(1, "prompt", 8), draws[7]}
    assert len(others) == 4
    # the parts are told apart: (1, "1", 1) is not (1, "", 11)
    assert draw(1, "1", 1) != draw(1, "", 11) != draw(11, "", 1)


def test_what_a_draw_is_for_makes_it_another_draw() -> None:
    purposes = [draw(1, "p", 5, purpose) for purpose in ("", "q", "accept")]
    assert len(set(purposes)) == 3
    # told apart from a key or a position that ends alike
    assert draw(1, "p", 5, "1") not in {draw(1, "p", 51), draw(1, "p\0005", 1)}


def test_draws_of_one_position_are_independent_of_one_another() -> None:
    table = [
        [draw(0, "p", position, use) for use in ("", "q", "accept")] for position in range(2000)
    ]
    correlation = torch.corrcoef(torch.tensor(table, dtype=torch.float64).T)
    # of 2000 pairs: six standard deviations, a false alarm once in 5e8
    assert float((correlation - torch.eye(3)).abs().max()) < 6 / math.sqrt(2000)


def test_a_table_of_draws_begins_where_each_text_stands() -> None:
    table = draws(3, [("a", 7), ("b", 0)], 2, "q")
    assert table.dtype == torch.float64
    assert table.tolist() == [
        [draw(3, "a", 7, "q"), draw(3, "a", 8, "q")],
        [draw(3, "b", 0, "q"), draw(3, "b", 1, "q")],
    ]
    assert draws(3, [("a", 7)], 1).tolist() == [[draw(3, "a", 7)]]
    assert draws(3, [("a", 7), ("b", 0)], 0).shape == (2, 0)


def test_indices_are_picked_by_their_weight_whatever_it_sums_to() -> None:
    weights = torch.tensor([[0.0, 3.0, 0.0, 1.0, 0.0]])
    numbers = torch.tensor([0.0, 0.74, 0.75, 0.999999999], dtype=torch.float64)
    assert pick(weights.expand(4, 5), numbers).tolist() == [1, 1, 3, 3]
    # half precision is summed in double
    many = torch.full((1, 4096), 1 / 4096, dtype=torch.float16)
    assert int(pick(many, torch.tensor([0.5], dtype=torch.float64))) == 2048


@pytest.mark.parametrize(
    "sampling", [Sampling(0.7), Sampling(1.0, top_k=5), Sampling(1.3, top_p=0.7)], ids=str
)
def test_a_distribution_has_any_shape_and_keeps_float64(sampling: Sampling) -> None:
    flat = logits(6, 20)
    deep = distribution(flat.view(2, 3, 20), sampling)
    assert torch.equal(deep.view(6, 20), distribution(flat, sampling))
    assert distribution(flat.half(), sampling).dtype == torch.float32
    wide = distribution(flat.double(), sampling)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), distribution(flat, sampling))


@pytest.mark.parametrize("width", [20, 3 * NUCLEUS_GUESS])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0.7),
        Sampling(1.0, top_k=5),
        Sampling(1.3, top_p=0.9),
        Sampling(0.8, top_k=12, top_p=0.6),
        Sampling(50.0, top_p=0.999),  # nearly flat: the nucleus is wider than the first guess
        Sampling(1.0, top_p=1e-9),
    ],
    ids=str,
)
def test_the_distribution_is_that_of_transformers(sampling: Sampling, width: int) -> None:
    given_logits = logits(4, width)
    scores = TemperatureLogitsWarper(sampling.temperature)(None, given_logits)
    if sampling.top_k is not None:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p is not None:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    found = distribution(given_logits, sampling)
    torch.testing.assert_close(found, torch.softmax(scores, dim=-1), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(4))


def test_greedy_takes_the_first_of_the_best() -> None:
    assert choose(torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]), Sampling(), ()) == [1, 0]


@settings(deadline=None)
@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 50))
def test_a_draw_picks_the_id_whose_stretch_it_falls_into(number: float, seed: int) -> None:
    sampling = Sampling(1.0, top_k=4)
    given_logits = logits(1, 16, seed=seed)
    chances = distribution(given_logits, sampling)[0].double()
    (token,) = choose(given_logits, sampling, [number])
    assert chances[token] > 0
    before, after = float(chances[:token].sum()), float(chances[: token + 1].sum())
    assert before <= number * float(chances.sum()) * (1 + 1e-12) + 1e-12
    assert number * float(chances.sum()) <= after * (1 + 1e-12) + 1e-12


def test_frequencies_follow_the_distribution() -> None:
    sampling = Sampling(1.0)
    given_logits = torch.tensor([[0.0, 1.0, 2.0, -20.0]])
    n = 4000
    draws = [draw(0, "x", position) for position in range(n)]
    tokens = choose(given_logits.expand(n, 4), sampling, draws)
    for token, chance in enumerate(distribution(given_logits, sampling)[0].tolist()):
        # six standard deviations: a false alarm once in 5e8 for each of the four ids
        allowed = 6 * math.sqrt(n * chance * (1 - chance)) + 1
        assert abs(tokens.count(token) - n * chance) <= allowed


def test_the_edges_of_the_unit_interval_give_possible_ids() -> None:
    impossible = torch.full((1, 6), -math.inf)
    impossible[0, 2:4] = 0.0
    assert choose(impossible, Sampling(1.0), [0.0]) == [2]
    assert choose(impossible, Sampling(1.0), [math.nextafter(1.0, 0.0)]) == [3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sampling(-0.1),
        lambda: Sampling(math.nan),
        lambda: Sampling(math.inf),
        lambda: Sampling(1.0, top_k=0),
        lambda: Sampling(1.0, top_p=0.0),
        lambda: Sampling(1.0, top_p=1.5),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], Sampling]) -> None:
    with pytest.raises(DecodeError, match="must"):
        make()
