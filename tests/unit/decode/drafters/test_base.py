"""The reduced head: kept rows only, one map, and none where K = V. Drafts made with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import H, V
from tests.tiny_pairs import vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.drafters.base import ReducedHead, propose
from vocabtrim.decode.sampling import Sampling, distribution, pick

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(V, H, generator=GENERATOR)
BIAS = torch.randn(V, generator=GENERATOR) * 5
HIDDEN = torch.randn(20, H, generator=GENERATOR)


@settings(deadline=None, max_examples=30)
@given(ids=st.sets(st.integers(0, V - 1), min_size=1), biased=st.booleans())
def test_the_best_kept_id_is_that_of_the_full_logits(ids: set[int], biased: bool) -> None:
    vocab = DraftVocab.from_ids(sorted(ids), V)
    rows = torch.tensor(sorted(ids))
    head = ReducedHead(WEIGHT[rows], vocab, BIAS[rows] if biased else None)
    full = HIDDEN @ WEIGHT.T + (BIAS if biased else 0)
    torch.testing.assert_close(head.logits(HIDDEN), full[:, rows])
    for hidden, logits in zip(HIDDEN, full, strict=True):
        best = head.best(hidden)
        assert best.shape == ()
        assert best.dtype == torch.int64
        assert int(best) == max(ids, key=lambda one: float(logits[one]))


def test_all_ids_need_no_map_and_a_map_would_change_nothing() -> None:
    full = ReducedHead(WEIGHT, DraftVocab.full(V))
    mapped = ReducedHead(WEIGHT, vocabulary(V))
    assert full.ids is None
    mapped.ids = torch.arange(V)
    for hidden in HIDDEN:
        assert int(full.best(hidden)) == int(mapped.best(hidden))
    assert ReducedHead(WEIGHT[1:], DraftVocab(np.arange(1, V), V)).ids is not None


def test_of_equal_rows_the_lowest_id_is_best() -> None:
    # as in the full head: argmax takes the first
    weight = WEIGHT[:4].clone()
    weight[1] = weight[3] = WEIGHT[7] * 100
    head = ReducedHead(weight, DraftVocab.from_ids([10, 20, 30, 40], V))
    assert int(head.best(WEIGHT[7])) == 20


def test_one_id_is_always_best() -> None:
    head = ReducedHead(WEIGHT[5:6], DraftVocab.from_ids([5], V))
    assert [int(head.best(hidden)) for hidden in HIDDEN[:3]] == [5, 5, 5]


def test_rows_and_ids_must_agree() -> None:
    with pytest.raises(DecodeError, match="head of 95 rows cannot serve a vocabulary of 96 ids"):
        ReducedHead(WEIGHT[1:], DraftVocab.full(V))


class Scripted:
    """A drafter that says the given hidden states, and notes what it is asked."""

    feature_layers = ()

    def __init__(self, vocab: DraftVocab, hidden: torch.Tensor) -> None:
        self.head = ReducedHead(WEIGHT[torch.from_numpy(vocab.ids.copy())], vocab)
        self.hidden = hidden
        self.calls: list[object] = []

    def start(self) -> torch.Tensor:
        self.calls.append("start")
        self.depth = 0
        return self.hidden[:, 0]

    def step(self, token_ids: torch.Tensor, alive: Sequence[bool]) -> torch.Tensor:
        self.calls.append((token_ids.tolist(), list(alive)))
        self.depth += 1
        return self.hidden[:, self.depth]

    def rewind(self) -> None:
        self.calls.append("rewind")


STATES = HIDDEN[:12].view(3, 4, H)


@pytest.mark.parametrize("size", [1, 7, V])
def test_the_likeliest_drafts_are_fed_back(size: int) -> None:
    drafter = Scripted(vocabulary(size), STATES)
    proposal = propose(drafter, [4, 1, 2])  # type: ignore[arg-type]
    ids = proposal.ids
    assert torch.equal(ids, drafter.head.best(STATES))
    assert proposal.q is None
    assert proposal.vocab_ids is drafter.head.ids
    assert drafter.calls == [
        "start",
        (ids[:, 0].tolist(), [True, False, True]),
        (ids[:, 1].tolist(), [True, False, False]),
        (ids[:, 2].tolist(), [True, False, False]),
        "rewind",
    ]


@pytest.mark.parametrize("size", [1, 7, V])
@pytest.mark.parametrize("sampling", [Sampling(0.8), Sampling(1.2, top_k=3, top_p=0.9)], ids=str)
def test_drawn_drafts_come_with_their_q_over_the_draft_vocabulary(
    size: int, sampling: Sampling
) -> None:
    vocab = vocabulary(size)
    drafter = Scripted(vocab, STATES)
    draws = torch.rand(3, 4, generator=GENERATOR, dtype=torch.float64)
    proposal = propose(drafter, [4, 4, 4], sampling, draws)  # type: ignore[arg-type]
    assert proposal.q is not None
    assert proposal.q.shape == (3, 4, size)
    torch.testing.assert_close(proposal.q.sum(dim=-1), torch.ones(3, 4))
    kept = torch.from_numpy(vocab.ids.copy())
    for depth in range(4):
        # filters see the kept rows only, and what they leave sums to 1 over them
        q = distribution(STATES[:, depth] @ WEIGHT[kept].T, sampling)
        torch.testing.assert_close(proposal.q[:, depth], q)
        assert torch.equal(proposal.ids[:, depth], kept[pick(q, draws[:, depth])])
    assert (proposal.vocab_ids is None) == (size == V)


def test_without_draws_or_without_sampling_drafts_are_the_likeliest() -> None:
    draws = torch.full((3, 2), 0.99, dtype=torch.float64)
    for options in ((None, draws), (Sampling(1.0), None), (None, None)):
        drafter = Scripted(vocabulary(7), STATES)
        assert propose(drafter, [2, 2, 2], *options).q is None  # type: ignore[arg-type]


@pytest.mark.parametrize("sampling", [None, Sampling(0.8, top_k=3)], ids=str)
@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.9, 1.0])
def test_a_draft_ends_where_the_likeliest_id_is_not_likely_enough(
    sampling: Sampling | None, confidence: float
) -> None:
    draws = torch.rand(3, 4, generator=GENERATOR, dtype=torch.float64)
    drafter, plain = (Scripted(vocabulary(7), STATES) for _ in range(2))
    lengths = [4, 2, 3]
    proposal = propose(drafter, lengths, sampling, draws, confidence=confidence)  # type: ignore[arg-type]
    usual = propose(plain, lengths, sampling, draws)  # type: ignore[arg-type]
    logits = drafter.head.logits(STATES)
    q = torch.softmax(logits, dim=-1) if sampling is None else distribution(logits, sampling)
    sure = (q.amax(dim=-1) >= confidence).tolist()
    expected = [
        next((depth for depth in range(length) if not row[depth]), length)
        for length, row in zip(lengths, sure, strict=True)
    ]
    assert list(proposal.counts) == expected
    assert usual.counts == tuple(lengths)
    # as far as they go, the drafts are the usual ones: what ends a draft changes none before it
    for row, count in enumerate(expected):
        assert proposal.ids[row, :count].tolist() == usual.ids[row, :count].tolist()
        if sampling is not None and count:
            assert proposal.q is not None
            assert usual.q is not None
            assert torch.equal(proposal.q[row, :count], usual.q[row, :count])
    assert drafter.calls[0] == "start"
    assert drafter.calls[-1] == "rewind"
    # nothing is read for a draft that has ended
    steps = [call[1] for call in drafter.calls if isinstance(call, tuple)]
    for depth, alive in enumerate(steps, 1):
        assert all(not one or depth <= count for one, count in zip(alive, expected, strict=True))


def test_no_draft_at_all() -> None:
    drafter = Scripted(vocabulary(7), STATES)
    proposal = propose(drafter, [4, 4, 4], confidence=1.0)  # type: ignore[arg-type]
    assert proposal.ids.shape == (3, 0)
    assert proposal.counts == (0, 0, 0)
    assert drafter.calls == ["start", "rewind"]
