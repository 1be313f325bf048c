"""What a trace says of a vocabulary is what decoding with it does, cycle by cycle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_models import V, random_ids, tiny_model
from tests.tiny_pairs import markov_pair, reduced
from vocabtrim.core.trace import Trace, TracedText, TraceError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.drafters.base import Drafter, ReducedHead
from vocabtrim.decode.drafters.independent import IndependentDrafter
from vocabtrim.decode.target import Target
from vocabtrim.replay.replay import OpenPositions, accepted, replay
from vocabtrim.replay.trace import Tracer, resolved

TOKENIZER = "sha256:" + "3" * 64
BUDGET = 24
GAMMAS = (1, 2, 3, 4, 5, 6)


class Pair:
    """A target with a drafter that is right some of the time, in float64."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        noise = torch.Generator().manual_seed(11)

        def disturb(weight: torch.Tensor, size: float) -> None:
            with torch.no_grad():
                weight.add_(size * torch.randn(weight.shape, generator=noise))

        if kind == "eagle3":

            def change(name: str, weight: torch.Tensor) -> torch.Tensor:
                if name.endswith(("fc.weight", "o_proj.weight", "down_proj.weight")):
                    disturb(weight, 0.08)
                return weight.double()

            self.drafter: Any
            self.model, self.drafter = markov_pair(DraftVocab.full(V), change=change)
            self.model = self.model.double()
        else:
            self.model, small = tiny_model(seed=3), tiny_model(seed=3)
            for weight in small.parameters():
                disturb(weight, 0.016)
            self.model, small = self.model.double(), small.double()
            self.drafter = IndependentDrafter(small.model, reduced(small, DraftVocab.full(V)))
        self.weight = reduced(self.model if kind == "eagle3" else small, DraftVocab.full(V)).weight
        self.use(DraftVocab.full(V))
        self.target = Target(self.model, self.drafter.feature_layers)

    def use(self, vocab: DraftVocab) -> Drafter:
        """Return the drafter over a vocabulary."""
        rows = torch.from_numpy(vocab.ids.copy())
        self.drafter.head = ReducedHead(self.weight[rows], vocab)
        return self.drafter

    def texts(self, count: int) -> list[TracedText]:
        """Return what the target writes."""
        found = []
        for index in range(count):
            prompt = random_ids(3 + index, seed=index)
            text = speculate(self.target, None, prompt, gamma=0, max_new_tokens=BUDGET).token_ids
            found.append(
                TracedText(str(index), "", np.array(prompt), np.array(text, dtype=np.int64), BUDGET)
            )
        return found

    def tracer(self, width: int, max_gamma: int = max(GAMMAS)) -> Tracer:
        self.use(DraftVocab.full(V))
        return Tracer(
            self.target, self.drafter, max_gamma=max_gamma, width=width, tokenizer=TOKENIZER
        )


@pytest.fixture(scope="module", params=["eagle3", "independent"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


@pytest.fixture(scope="module")
def trace(pair: Pair) -> Trace:
    return pair.tracer(8).trace(pair.texts(12))


def vocabularies() -> list[DraftVocab]:
    generator = np.random.default_rng(7)
    ids = [
        np.arange(V),
        np.arange(V // 2),
        np.arange(V // 3, V),
        generator.permutation(V)[: 3 * V // 4],
        generator.permutation(V)[: V // 4],
    ]
    return [DraftVocab.from_ids(one, V, TOKENIZER) for one in ids]


@pytest.mark.parametrize("index", range(5))
def test_replay_equals_decoding(pair: Pair, trace: Trace, index: int) -> None:
    vocab = vocabularies()[index]
    whole = trace
    try:
        accepted(trace, vocab.t2d)
    except OpenPositions as fault:
        whole = resolved(pair.tracer(8), trace, fault.rows)
    replayed = replay(whole, vocab, GAMMAS)
    pair.use(vocab)
    for gamma, found in zip(GAMMAS, replayed, strict=True):
        decoded = [
            speculate(
                pair.target,
                pair.drafter,
                text.prompt_ids.tolist(),
                gamma=gamma,
                max_new_tokens=BUDGET,
            )
            for text in trace.texts
        ]
        assert [one.token_ids for one in decoded] == [
            tuple(text.tokens.tolist()) for text in trace.texts
        ]
        assert found.per_text == [one.counts for one in decoded]


def test_the_drafter_is_right_some_of_the_time(trace: Trace) -> None:
    (found,) = replay(trace, vocabularies()[0], [4])
    rates = found.pooled.acceptance_by_position
    assert all(rate is not None and 0.03 < rate < 0.99 for rate in rates), rates


def test_depths_are_their_own_for_eagle(pair: Pair, trace: Trace) -> None:
    assert trace.own_depths == (pair.kind == "eagle3")
    if trace.own_depths:
        # the draft's own features are others than the target's
        same = trace.candidates[1:, 0] == trace.candidates[:-1, 1]
        known = (trace.target_rank[1:, 0] >= 0) & (trace.target_rank[:-1, 1] >= 0)
        assert not same[known].all()


def test_open_positions_are_resolved(pair: Pair) -> None:
    narrow = pair.tracer(1).trace(pair.texts(12))
    vocab = vocabularies()[4]
    with pytest.raises(OpenPositions) as fault:
        accepted(narrow, vocab.t2d)
    whole = resolved(pair.tracer(1), narrow, fault.value.rows)
    wide = pair.tracer(V - 1).trace(pair.texts(12))
    assert np.array_equal(accepted(whole, vocab.t2d), accepted(wide, vocab.t2d))
    assert len(whole.above) == len(fault.value.rows)
    for (row, depth), ids in whole.above.items():
        assert ids.size == narrow.target_rank[row, depth]
        assert set(ids) == set(wide.candidates[row, depth, : ids.size])


def test_ranks_and_scores_are_those_of_the_logits(pair: Pair) -> None:
    (text,) = pair.texts(1)
    rows = pair.tracer(5).rows(text)
    whole = pair.tracer(V - 1).rows(text)
    assert np.array_equal(rows.candidates, whole.candidates[..., :5])
    assert np.array_equal(rows.target_rank, whole.target_rank)
    known = whole.target_rank >= 0
    assert (np.diff(whole.scores[known], axis=1) <= 0).all()
    place = np.minimum(whole.target_rank, V - 2)[..., None]
    at_rank = np.take_along_axis(whole.scores, place, axis=2)[..., 0]
    inside = known & (whole.target_rank < V - 1)
    assert np.array_equal(at_rank[inside], whole.target_score[inside])


def test_equal_logits_rank_by_id(pair: Pair) -> None:
    """Rows that are the same weigh the same, and `argmax` takes the first of them."""
    weight = pair.weight
    try:
        pair.weight = weight[torch.arange(V) // 3]
        tracer = pair.tracer(7)
        text = pair.texts(3)[2]
        rows = tracer.rows(text)
        full = DraftVocab.full(V, TOKENIZER)
        trace = tracer.join([text], [rows])
        decoded = speculate(
            pair.target, pair.use(full), text.prompt_ids.tolist(), gamma=3, max_new_tokens=BUDGET
        )
        assert replay(trace, full, [3])[0].per_text == [decoded.counts]
        # three equal rows follow one another in the order of their ids
        ids = rows.candidates[rows.target_rank >= 0]
        assert (ids[:, 0] % 3 == 0).all()
        assert (ids[:, 1:3] == ids[:, :1] + [1, 2]).all()
        assert (ids[:, 4:6] == ids[:, 3:4] + [1, 2]).all()
    finally:
        pair.weight = weight


def test_a_reduced_drafter_has_no_rank_for_other_tokens(pair: Pair) -> None:
    vocab = vocabularies()[1]
    texts = pair.texts(6)
    pair.use(vocab)
    tracer = Tracer(pair.target, pair.drafter, max_gamma=3, width=4, tokenizer=TOKENIZER)
    trace = tracer.trace(texts)
    outside = (trace.wanted >= V // 2) & (trace.target_rank >= 0)
    assert outside.any()
    assert (trace.target_rank[outside] == V).all()
    assert (trace.candidates[trace.target_rank >= 0] < V // 2).all()
    assert trace.head_ids is not None
    assert np.array_equal(trace.head_ids, vocab.ids)
    (found,) = replay(trace, vocab, [3])
    decoded = [
        speculate(
            pair.target, pair.drafter, text.prompt_ids.tolist(), gamma=3, max_new_tokens=BUDGET
        )
        for text in texts
    ]
    assert found.per_text == [one.counts for one in decoded]


def test_texts_of_one_and_two_tokens(pair: Pair) -> None:
    text = pair.texts(1)[0]
    short = [replace(text, tokens=text.tokens[:length]) for length in (1, 2)]
    trace = pair.tracer(3).trace(short)
    assert [one.starts for one in trace.texts] == [0, 1]
    assert (trace.target_rank >= 0).sum() == 1


@pytest.mark.parametrize(("max_gamma", "width"), [(0, 4), (2, 0), (2, V)])
def test_impossible_traces_are_refused(pair: Pair, max_gamma: int, width: int) -> None:
    with pytest.raises(TraceError, match="a trace needs a draft length of 1 or more"):
        pair.tracer(width, max_gamma)
