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
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode import chain
from vocabtrim.decode.chain import Chain, Generation, speculate, speculate_together
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.sampling import Sampling, choose, distribution, draw, pick
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request, Text

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
        # a hidden state is an id: row i of the head answers to the i-th unit vector
        self.head = ReducedHead(torch.eye(V), DraftVocab.full(V))
        self.asked: list[int] = []

    def begin(self, columns: int, rows: int = 1) -> None:
        self.committed = 0

    def open(self, rows: int) -> None:
        assert rows == 1

    def keep(self, rows: Sequence[int]) -> None:
        assert list(rows) in ([], [0])

    def commit(self, token_ids: Sequence[int], features: Any, row: int = 0) -> None:
        assert list(token_ids) == self.text[self.committed : self.committed + len(token_ids)]
        self.committed += len(token_ids)

    def start(self) -> torch.Tensor:
        self.depth = 0
        return self._said()

    def step(self, token_ids: torch.Tensor, alive: Sequence[bool]) -> torch.Tensor:
        assert list(alive) == [True]
        self.depth += 1
        return self._said()

    def rewind(self) -> None:
        self.asked.append(self.depth + 1)

    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        raise NotImplementedError

    def _said(self) -> torch.Tensor:
        place = self.committed + self.depth
        token = self.text[place] if place < len(self.text) else 0
        return torch.eye(V)[[(token + (self.depth in self.wrong)) % V]]


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


@pytest.mark.parametrize(
    ("prompt", "options", "says"),
    [
        ([], {}, "the prompt has no tokens"),
        (IDS[:256], {}, "the prompt has 256 tokens, but the model's context is 256; shorten it"),
        (IDS[:300], {}, "the prompt has 300 tokens, but the model's context is 256; shorten it"),
        ([5, -1], {}, r"id outside \[0, 96\), .*: it was encoded with another tokenizer"),
        ([5, 96], {}, r"id outside \[0, 96\), .*: it was encoded with another tokenizer"),
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


SAMPLED = Sampling(0.9, top_k=30, top_p=0.95, seed=5)


@pytest.mark.parametrize("sampling", [Sampling(1.0, seed=5), SAMPLED], ids=str)
def test_without_a_drafter_each_position_is_sampled_with_its_own_draw(sampling: Sampling) -> None:
    model, text = MODELS["mistral"], list(IDS[:10])
    done = speculate(
        Target(model), None, text, gamma=0, max_new_tokens=9, sampling=sampling, key="p"
    )
    for position in range(9):
        with torch.no_grad():
            logits = model(torch.tensor([text]), use_cache=False).logits[:, -1]
        text += choose(logits, sampling, [draw(5, "p", position)])
    assert list(done.token_ids) == text[10:]


def plain_sampled(
    model: Any, drafter: Any, vocab: DraftVocab, gamma: int, budget: int, *, greedy_drafts: bool
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Decode by algorithm 1 of the paper, a number at a time, with fresh passes only."""
    text, prompt, cycles = list(IDS[:10]), 10, []
    kept = torch.from_numpy(vocab.ids.copy())

    @torch.no_grad()
    def p_behind(ids: list[int]) -> torch.Tensor:
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        return distribution(logits, SAMPLED).double()

    def number(position: int, purpose: str = "") -> torch.Tensor:
        return torch.tensor([draw(5, "p", position, purpose)], dtype=torch.float64)

    text.append(int(pick(p_behind(text)[None], number(0))))
    while (left := budget - (len(text) - prompt)) > 0:
        first = len(text) - prompt
        draft, q = [], []
        for depth in range(min(gamma, left - 1)):
            with torch.no_grad():
                hidden = drafter.model(torch.tensor([text + draft]), use_cache=False)[0][0, -1]
                logits = drafter.lm_head(hidden)[kept]
            q.append(torch.zeros(V, dtype=torch.float64))
            if greedy_drafts:
                q[-1][kept[logits.argmax()]] = 1.0
            else:
                q[-1][kept] = distribution(logits, SAMPLED).double()
            draft.append(int(pick(q[-1][None], number(first + depth, "q"))))
        emitted = []
        for depth, token in enumerate(draft):
            p = p_behind(text + draft[:depth])
            if float(number(first + depth, "accept")) * q[depth][token] >= p[token]:
                rest = (p - q[depth]).clamp(min=0)
                emitted.append(int(pick(rest[None], number(first + depth))))
                break
            emitted.append(token)
        else:
            emitted.append(int(pick(p_behind(text + draft)[None], number(first + len(draft)))))
        cycles.append((len(draft), len(emitted) - 1, len(emitted)))
        text += emitted
    return text[prompt:], cycles


@pytest.mark.parametrize("greedy_drafts", [False, True])
@pytest.mark.parametrize("size", [1, 70, V])
@pytest.mark.parametrize("gamma", [1, 3])
def test_sampled_cycles_are_those_of_the_paper(gamma: int, size: int, greedy_drafts: bool) -> None:
    model = endless()
    # the target itself, so that many drafts stand
    vocab = vocabulary(size)
    done = speculate(
        Target(model),
        lm_drafter(model, vocab),
        IDS[:10],
        gamma=gamma,
        max_new_tokens=12,
        sampling=SAMPLED,
        key="p",
        greedy_drafts=greedy_drafts,
    )
    text, cycles = plain_sampled(model, model, vocab, gamma, 12, greedy_drafts=greedy_drafts)
    assert list(done.token_ids) == text
    assert done.counts == AcceptCounts.of_cycles(gamma, cycles)
    if size > 1:
        assert done.counts.n_accepted > 0
    if greedy_drafts or size < V:
        assert done.counts.n_accepted < done.counts.n_drafted


def test_a_sampled_eos_ends_the_text() -> None:
    model = endless()
    options: dict[str, Any] = {"gamma": 3, "max_new_tokens": 12, "sampling": SAMPLED, "key": "p"}
    whole = speculate(Target(model), lm_drafter(model, vocabulary(V)), IDS[:10], **options)
    place = next(i for i in range(4, 12) if whole.token_ids[i] not in whole.token_ids[:i])
    model.generation_config.eos_token_id = whole.token_ids[place]
    cut = speculate(Target(model), lm_drafter(model, vocabulary(V)), IDS[:10], **options)
    assert cut.token_ids == whole.token_ids[: place + 1]
    assert cut.finish_reason == "stop"


REQUESTS = [
    Request(f"p{n}", tuple(random_ids(2 + 5 * n, seed=n)), 1 + (7 * n) % 12) for n in range(5)
]


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("family", ["eagle3", "independent", "none"])
def test_texts_decoded_together_are_those_decoded_alone(family: str, sampling: Sampling) -> None:
    model = endless("gemma3").double()
    makers: dict[str, Any] = {"eagle3": eagle_drafter, "independent": lm_drafter}
    drafter = makers[family](model, vocabulary(60)) if family in makers else None
    target = Target(model, drafter.feature_layers if drafter else ())
    options: dict[str, Any] = {"gamma": 3, "sampling": sampling}
    together = speculate_together(target, drafter, REQUESTS, **options)
    for one, request in zip(together, REQUESTS, strict=True):
        alone = speculate_together(target, drafter, [request], **options)[0]
        timed = {"prefill_s": 0.0, "decode_s": 0.0}
        assert replace(one, **timed) == replace(alone, **timed)
        assert len(one.token_ids) == request.max_new_tokens


def test_the_time_of_texts_decoded_together_is_shared() -> None:
    ticks = count(10.0, 1.5)
    done = speculate_together(
        Target(MODELS["llama"]), None, REQUESTS[1:4], gamma=0, clock=lambda: next(ticks)
    )
    assert [(one.prefill_s, one.decode_s) for one in done] == [(1.5, 0.5)] * 3


def test_a_chain_takes_texts_in_and_lets_them_out() -> None:
    model = endless()
    target, drafter = Target(model), lm_drafter(model, vocabulary(60))
    going = Chain(target, drafter, gamma=2, rows=2, columns=40)
    texts = [Text(one, one.room(target)) for one in REQUESTS]
    going.admit(texts[:2])
    # the first wants one token, which the prefill gave
    assert going.close() == texts[:1]
    assert going.texts == [texts[1]]
    going.cycle()
    going.admit(texts[2:3])
    while going.texts:
        going.cycle()
        going.close()
    for text in texts[:3]:
        prompt = list(text.request.prompt_ids)
        assert text.token_ids == reference_greedy(model, prompt, text.request.max_new_tokens)
    with pytest.raises(DecodeError, match="holds 2 texts and 3 were asked for"):
        going.admit(texts[:3])


def test_the_rule_is_asked_about_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = chain.verify_sampled

    def noted(proposal: Any, p: torch.Tensor, lengths: torch.Tensor, *draws: torch.Tensor) -> Any:
        seen.append((tuple(p.shape), lengths.tolist(), [tuple(one.shape) for one in draws]))
        return original(proposal, p, lengths, *draws)

    monkeypatch.setattr(chain, "verify_sampled", noted)
    model = endless()
    requests = [Request("a", (5, 6), 3), Request("b", (7, 8, 9), 9)]
    speculate_together(
        Target(model), lm_drafter(model, vocabulary(V)), requests, gamma=3, sampling=SAMPLED
    )
    assert seen[0] == ((2, 4, V), [1, 3], [(2, 3), (2, 4)])


def shifted(seen: list[tuple[str, int, list[int], torch.Tensor]]) -> chain.Reshape:
    """Return what makes the id behind the likeliest one the likeliest, and notes its calls."""

    def reshape(text: Text, draft: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        seen.append((text.request.key, len(text.token_ids), list(draft), logits.clone()))
        return logits.roll(1, dims=-1) * 2.0

    return reshape


@pytest.mark.parametrize("gamma", [0, 3])
def test_a_caller_may_change_the_target_s_logits(gamma: int) -> None:
    model = endless().double()
    requests = [Request(f"p{n}", tuple(IDS[n : n + 5 + n]), 6 + n) for n in range(3)]
    target, seen = Target(model), []
    drafter = lm_drafter(model, vocabulary(48))
    texts = [Text(one, one.room(target)) for one in requests]
    decoding = Chain(target, drafter, gamma=gamma, rows=3, columns=20, reshape=shifted(seen))
    decoding.admit(texts)
    while decoding.texts:
        decoding.cycle()
        decoding.close()
    for text in texts:
        ids = list(text.request.prompt_ids)
        for token in text.token_ids:
            with torch.no_grad():
                assert token == (int(model(torch.tensor([ids])).logits[0, -1].argmax()) + 1) % V
            ids.append(token)
    # every pass of every text: its drafts, and the target's logits before and behind each
    for key, count_, draft, logits in seen:
        text = next(one for one in texts if one.request.key == key)
        ids = [*text.request.prompt_ids, *text.token_ids[:count_], *draft]
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0, -len(draft) - 1 :]
        torch.testing.assert_close(logits, expected)
        assert len(draft) <= gamma
    assert any(draft for *_, draft, _ in seen) == bool(gamma)


def test_changed_logits_are_drawn_from_as_they_are() -> None:
    """The temperature is the drafter's alone: a text of a tempered p comes out of a cold one."""
    model, request = MODELS["llama"], Request("x", tuple(IDS[:5]), 12)
    hot = Sampling(1.5, seed=4)
    drawn = speculate_together(Target(model), None, [request], gamma=0, sampling=hot)[0]
    text = Text(request, 12)
    decoding = Chain(
        Target(model),
        None,
        gamma=0,
        rows=1,
        columns=17,
        sampling=Sampling(0.1, top_k=2, seed=4),
        reshape=lambda _text, _draft, logits: logits / 1.5,
    )
    decoding.admit([text])
    while decoding.texts:
        decoding.cycle()
        decoding.close()
    assert tuple(text.token_ids) == drawn.token_ids


def test_half_precision_is_changed_in_single() -> None:
    model = tiny_model().to(torch.bfloat16)
    request, kinds = Request("x", tuple(IDS[:5]), 3), set()

    def reshape(_text: Text, _draft: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        kinds.add(logits.dtype)
        return logits

    decoding = Chain(Target(model), None, gamma=0, rows=1, columns=8, reshape=reshape)
    decoding.admit([Text(request, 3)])
    decoding.cycle()
    assert kinds == {torch.float32}


@pytest.mark.parametrize("confidence", [0.3, 0.6, 1.0])
def test_drafts_that_end_early_leave_the_text_as_it_is(confidence: float) -> None:
    model = endless().double()
    requests = [Request(f"p{n}", tuple(IDS[n : n + 5 + n]), 12 + n) for n in range(4)]
    for drafter in (lm_drafter(model, vocabulary(48)), eagle_drafter(model, vocabulary(48))):
        target = Target(model, drafter.feature_layers)
        plain = speculate_together(target, drafter, requests, gamma=4)
        early = speculate_together(target, drafter, requests, gamma=4, confidence=confidence)
        assert [one.token_ids for one in early] == [one.token_ids for one in plain]
        drafted = sum(one.counts.n_drafted for one in early)
        assert drafted < sum(one.counts.n_drafted for one in plain)
        assert (drafted == 0) == (confidence == 1.0)
        alone = speculate(
            target, drafter, IDS[:5], gamma=4, max_new_tokens=12, confidence=confidence
        )
        assert alone.token_ids == plain[0].token_ids
    with pytest.raises(DecodeError, match=r"confidence must lie in \[0, 1\], found 1.5"):
        speculate(target, drafter, IDS[:5], gamma=4, max_new_tokens=3, confidence=1.5)
