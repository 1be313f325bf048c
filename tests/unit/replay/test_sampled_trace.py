"""Chances of a tiny pair, against its own distributions and against repeated sampled runs.

The comparison with runs is a z test at 4 standard errors over independent texts:
it fails by chance once in 15,000, and the seeds are fixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_models import V, random_ids, tiny_model
from tests.tiny_pairs import LAYERS, eagle_drafter, lm_drafter
from vocabtrim.core.trace import TracedText, TraceError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.chain import speculate_together
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.sampling import Sampling
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request
from vocabtrim.replay.sampled import expected
from vocabtrim.replay.sampled_trace import SampledTracer

SIZES, GAMMAS, BUDGET, RUNS = (V // 4, V), (1, 3), 10, 160
SAMPLING = Sampling(temperature=0.8, top_p=0.95, seed=5)
ORDER = np.random.default_rng(2).permutation(V)


class Pair:
    def __init__(self, kind: str) -> None:
        self.model = tiny_model()
        full = DraftVocab.full(V)
        if kind == "eagle3":
            self.drafter: Any = eagle_drafter(self.model, full)
        else:
            small, generator = tiny_model(), torch.Generator().manual_seed(3)
            with torch.no_grad():
                for weight in small.parameters():
                    noise = torch.randn(weight.shape, generator=generator)
                    weight.add_(0.3 * weight.std() * noise)
            self.drafter = lm_drafter(small, full)
            self.model_of_head = small
        self.full = self.drafter.head
        self.target = Target(self.model, self.drafter.feature_layers)

    def use(self, size: int) -> Any:
        vocab = DraftVocab.from_ids(ORDER[:size], V)
        rows = torch.from_numpy(vocab.ids.copy())
        self.drafter.head = ReducedHead(self.full.weight[rows], vocab)
        return self.drafter

    def tracer(self, **more: Any) -> SampledTracer:
        self.drafter.head = self.full
        given: dict[str, Any] = {"sampling": SAMPLING, "order": ORDER, "sizes": SIZES}
        given |= {"max_gamma": 3, "tokenizer": "t"}
        return SampledTracer(self.target, self.drafter, **(given | more))


@pytest.fixture(scope="module", params=["eagle3", "independent"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def sampled(pair: Pair, drafter: Any, gamma: int, label: str) -> list[Any]:
    requests = [
        Request(f"{label} {index}", tuple(random_ids(4, seed=index % 7)), BUDGET)
        for index in range(RUNS)
    ]
    done: list[Any] = []
    for begin in range(0, RUNS, 50):
        part = requests[begin : begin + 50]
        done += speculate_together(pair.target, drafter, part, gamma=gamma, sampling=SAMPLING)
    return done


def texts(pair: Pair) -> list[TracedText]:
    return [
        TracedText(
            str(index),
            "",
            np.array(random_ids(4, seed=index % 7)),
            np.array(text.token_ids),
            BUDGET,
        )
        for index, text in enumerate(sampled(pair, None, 0, "plain"))
    ]


def test_expectations_are_what_repeated_runs_come_to(pair: Pair) -> None:
    known = texts(pair)
    tracer = pair.tracer()
    traces = [tracer.trace([text]) for text in known]
    whole = expected(tracer.trace(known), GAMMAS)
    for size in SIZES:
        for index, gamma in enumerate(GAMMAS):
            runs = sampled(pair, pair.use(size), gamma, f"{size} {gamma}")
            # cycles for each token emitted: the ratio of two sums, so by its residuals
            found = [(one.counts.cycles, one.counts.tokens) for one in runs]
            alone = [expected(trace, [gamma])[size][0].pooled for trace in traces]
            told = [(one.cycles, one.tokens) for one in alone]
            (here, error), (there, other) = (ratio(np.array(one)) for one in (found, told))
            assert abs(here - there) < 4 * np.hypot(error, other), (size, gamma)
            assert error < 0.06
            one = whole[size][index].pooled
            assert one.cycles / one.tokens == pytest.approx(there)
            if pair.drafter.feature_layers == ():
                assert here < 0.95  # some drafts are accepted


def ratio(pairs: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return cycles over tokens and its standard error."""
    cycles, tokens = pairs.T
    value = cycles.sum() / tokens.sum()
    residuals = cycles - value * tokens
    return float(value), float(residuals.std() * len(pairs) ** 0.5 / tokens.sum())


def test_chances_are_those_of_the_distributions(pair: Pair) -> None:
    """At depth 0 of one start, by plain passes over the whole text."""
    text = next(one for one in texts(pair) if one.tokens.size > 4)
    plain = Sampling(temperature=0.8)
    trace = pair.tracer(sampling=plain).trace([text])
    ids = [*text.prompt_ids.tolist(), *text.tokens.tolist()]
    start, before = 2, len(text.prompt_ids) + 3
    with torch.no_grad():
        p = torch.softmax(pair.model(torch.tensor([ids[:before]])).logits[0, -1] / 0.8, dim=-1)
        drafter = pair.use(V)
        features = None
        if drafter.feature_layers:
            hidden = pair.model(torch.tensor([ids[: before - 1]]), output_hidden_states=True)
            features = torch.cat([hidden.hidden_states[i][0] for i in LAYERS], dim=-1)
        drafter.begin(before + 4)
        drafter.commit(ids[:before], features)
        hidden_state = drafter.start()
        for column, size in enumerate(SIZES):
            head = pair.use(size).head
            q = torch.zeros(V)
            q[torch.from_numpy(head.vocab.ids.copy())] = torch.softmax(
                head.logits(hidden_state)[0] / 0.8, dim=-1
            )
            token = ids[before]
            expected_r = min(1.0, float(q[token] / p[token]))
            assert trace.accepted[start, 0, column] == pytest.approx(expected_r, abs=1e-4)
            assert trace.overlap[start, 0, column] == pytest.approx(
                float(torch.minimum(p, q).sum()), abs=1e-4
            )


def test_ids_without_a_row_are_in_no_vocabulary(pair: Pair) -> None:
    text = texts(pair)[0]
    half = np.sort(ORDER[: V // 2])
    pair.use(V // 2)
    tracer = SampledTracer(
        pair.target,
        pair.drafter,
        sampling=SAMPLING,
        order=ORDER,
        sizes=[V],
        max_gamma=2,
        tokenizer="t",
    )
    trace = tracer.trace([text])
    assert (trace.sizes, trace.head_rows) == ((V // 2,), V // 2)
    outside = ~np.isin(text.tokens[1:], half)
    assert (trace.accepted[outside, 0, 0] == 0).all()
    pair.drafter.head = pair.full
    same = pair.tracer(sizes=[V // 2], max_gamma=2).trace([text])
    assert trace.accepted == pytest.approx(same.accepted, abs=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampling": Sampling()},
        {"sizes": []},
        {"sizes": [0]},
        {"max_gamma": 0},
        {"order": ORDER[1:]},
    ],
)
def test_impossible_traces_are_refused(pair: Pair, wrong: dict[str, Any]) -> None:
    with pytest.raises(TraceError, match=r"needs a temperature above 0|each of the"):
        pair.tracer(**wrong)
