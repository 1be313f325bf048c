"""Our decoder behind `generate`: the text of plain `generate`, whatever shapes it, and its ends."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    PreTrainedTokenizerFast,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)

from tests.tiny_models import KINDS, V, random_ids, tiny_model
from tests.tiny_pairs import eagle_drafter, lm_drafter, vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.model import load_model
from vocabtrim.decode.packed import is_packed, pack_linears, packs
from vocabtrim.decode.sampling import Sampling, distribution
from vocabtrim.engines.transformers import speculative_generate
from vocabtrim.engines.transformers.generate import SpeculativeOutput
from vocabtrim.pipeline.open_drafter import open_drafter

PROMPT = torch.tensor([random_ids(9)])
MODEL = tiny_model().double()
NEW = 24


def out_of_tune(model: Any) -> Any:
    """Return a model of the same kind that agrees with it now and then."""
    generator = torch.Generator().manual_seed(0)
    other = tiny_model(model.config.model_type.removesuffix("_text")).double()
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.1 * weight.std() * torch.randn(weight.shape, generator=generator))
    return other


def drafters(model: Any, size: int = 48) -> list[Any]:
    vocab = vocabulary(size)
    return [eagle_drafter(model, vocab), lm_drafter(out_of_tune(model), vocab)]


def speculative(model: Any, drafter: Any, ids: torch.Tensor = PROMPT, **options: Any) -> Any:
    options = {"max_new_tokens": NEW} | options
    return model.generate(ids, custom_generate=speculative_generate, drafter=drafter, **options)


def plain(model: Any, ids: torch.Tensor = PROMPT, **options: Any) -> Any:
    return model.generate(ids, **{"max_new_tokens": NEW} | options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_whose_weights_were_packed(kind: str) -> None:
    model, other = (tiny_model(kind).bfloat16() for _ in range(2))
    packed, vocab = pack_linears(model), vocabulary(48)
    assert is_packed(packed) == packs(torch.empty(1, 1, dtype=torch.bfloat16))
    for drafter in (eagle_drafter(other, vocab), lm_drafter(other, vocab)):
        assert torch.equal(speculative(packed, drafter), plain(packed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0, 1, 5])
def test_greedy_text_is_that_of_plain_generate(kind: str, gamma: int) -> None:
    model = tiny_model(kind).double()
    for drafter in drafters(model):
        assert torch.equal(speculative(model, drafter, gamma=gamma), plain(model))


@pytest.mark.parametrize("name", ["demo-eagle3", "demo-lm"])
def test_the_demo_pair(demo_cache: Path, name: str) -> None:
    from vocabtrim.tensors.locate import locate

    model = load_model(locate("demo"))
    drafter = open_drafter(name, model, target="demo")
    ids = torch.tensor([[504, 3575, 282, 4649, 314]])
    mask = torch.ones_like(ids)
    found = speculative(
        model,
        drafter,
        ids,
        attention_mask=mask,
        gamma=2,
        max_new_tokens=12,
        return_dict_in_generate=True,
    )
    assert torch.equal(found.sequences, plain(model, ids, attention_mask=mask, max_new_tokens=12))
    assert found.counts.n_drafted > found.counts.n_accepted >= 0


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 20, "eos_token_id": list(range(2, 60))},
        {"min_length": 20, "eos_token_id": list(range(2, 60))},
        {"suppress_tokens": list(range(0, V, 2))},
        {"begin_suppress_tokens": list(range(V // 2))},
        {"bad_words_ids": [[one] for one in range(3, 40)]},
        {"sequence_bias": {(7,): 30.0, (7, 7): -60.0}},
        {"forced_bos_token_id": 11},
        {"forced_eos_token_id": 2},
        {"exponential_decay_length_penalty": (3, 1.5)},
        {"encoder_repetition_penalty": 2.0},
        {"encoder_no_repeat_ngram_size": 1},
        {"remove_invalid_values": True},
        {"renormalize_logits": True},
        {"prefix_allowed_tokens_fn": lambda _batch, ids: [(int(ids[-1]) * 7 + 3) % V, 50]},
    ],
    ids=",".join,
)
def test_what_shapes_logits_shapes_ours(options: dict[str, Any]) -> None:
    expected = plain(MODEL, **options)
    for drafter in drafters(MODEL):
        assert torch.equal(speculative(MODEL, drafter, gamma=3, **options), expected)


def test_each_option_above_makes_another_text_or_is_harmless() -> None:
    assert not torch.equal(plain(MODEL), plain(MODEL, repetition_penalty=1.5))
    assert not torch.equal(plain(MODEL), plain(MODEL, suppress_tokens=list(range(0, V, 2))))


class Recorded(LogitsProcessor):
    """Notes the texts that it is shown, and forbids an even id behind an even one."""

    def __init__(self) -> None:
        self.shown: list[list[int]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.shown.append(input_ids[0].tolist())
        forbidden = torch.arange(V) % 2 == 0
        return scores.masked_fill(forbidden, float("-inf")) if input_ids[0, -1] % 2 == 0 else scores


def test_a_processor_of_the_caller_s_sees_what_it_sees_in_generate() -> None:
    ours, theirs = Recorded(), Recorded()
    expected = plain(MODEL, logits_processor=LogitsProcessorList([theirs]))
    for drafter in drafters(MODEL):
        ours.shown.clear()
        found = speculative(MODEL, drafter, gamma=4, logits_processor=LogitsProcessorList([ours]))
        assert torch.equal(found, expected)
        # greedy: the very calls, one for each token, and none for drafts that did not stand
        assert ours.shown == theirs.shown


def test_no_processor_is_shown_a_text_that_it_forbade() -> None:
    class Strict(Recorded):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            new = input_ids[0, PROMPT.shape[1] :].tolist()
            assert not any(a % 2 == b % 2 == 0 for a, b in pairwise(new))
            return super().__call__(input_ids, scores)

    torch.manual_seed(3)
    for drafter in drafters(MODEL):
        out = speculative(
            MODEL,
            drafter,
            do_sample=True,
            eos_token_id=None,
            logits_processor=LogitsProcessorList([Strict()]),
        )
        assert out.shape[1] == PROMPT.shape[1] + NEW


def test_processors_that_leave_nothing_are_an_error() -> None:
    class Nothing(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return torch.full_like(scores, float("-inf"))

    with pytest.raises(DecodeError, match="leave no token"):
        speculative(MODEL, drafters(MODEL)[0], do_sample=True, logits_processor=[Nothing()])


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.5},
        {"top_k": 7, "temperature": 2.0},
        {"top_p": 0.6, "top_k": 0},
        {"top_p": 0.0},
        {"min_p": 0.3},
        {"typical_p": 0.5, "top_k": 0},
    ],
    ids=str,
)
def test_sampled_tokens_are_drawn_from_what_generate_draws_from(options: dict[str, Any]) -> None:
    """Only ids of positive probability appear, all along the text."""
    torch.manual_seed(0)
    for drafter in drafters(MODEL):
        for _ in range(4):
            out = speculative(MODEL, drafter, do_sample=True, **options)
            for length in (PROMPT.shape[1], out.shape[1] - 1):
                read = out[:, :length]
                scored = MODEL.generate(
                    read,
                    attention_mask=torch.ones_like(read),
                    max_new_tokens=1,
                    do_sample=True,
                    return_dict_in_generate=True,
                    output_scores=True,
                    **options,
                ).scores[0]
                assert float(scored[0, out[0, length]]) > float("-inf")


def test_first_tokens_have_the_target_s_frequencies() -> None:
    """A coarse look; `tests/lossless` has the distribution of whole texts."""
    torch.manual_seed(0)
    rows = PROMPT.repeat(2000, 1)
    mask = torch.ones_like(rows)
    out = speculative(
        MODEL,
        drafters(MODEL)[1],
        rows,
        attention_mask=mask,
        do_sample=True,
        top_k=5,
        temperature=3.0,
        max_new_tokens=1,
    )
    seen = torch.bincount(out[:, -1], minlength=V) / len(rows)
    logits = MODEL(PROMPT).logits[0, -1].detach()
    p = distribution(logits, Sampling(3.0, top_k=5))
    # six standard deviations of the largest: less than 1e-7 for five ids
    assert float((seen - p).abs().max()) < 6 * (0.25 / len(rows)) ** 0.5


def test_torch_s_seed_repeats_a_text_and_another_changes_it() -> None:
    drafter, texts = drafters(MODEL)[1], []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        texts.append(speculative(MODEL, drafter, do_sample=True, eos_token_id=None))
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    torch.manual_seed(1)
    speculative(MODEL, drafter, do_sample=True, eos_token_id=None)
    assert not torch.equal(speculative(MODEL, drafter, do_sample=True, eos_token_id=None), texts[0])


def test_several_sequences_of_a_prompt_differ() -> None:
    torch.manual_seed(1)
    out = speculative(MODEL, drafters(MODEL)[0], do_sample=True, num_return_sequences=3)
    assert out.shape[0] == 3
    assert len({tuple(row) for row in out.tolist()}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_several_lengths_side_by_side(kind: str) -> None:
    model = tiny_model(kind).double()
    rows = [[0] * (12 - length) + random_ids(length, seed=length) for length in (12, 3, 7)]
    ids = torch.tensor(rows)
    mask = (ids != 0).long()
    expected = plain(model, ids, attention_mask=mask)
    options = {"min_new_tokens": 5, "no_repeat_ngram_size": 2}
    for drafter in drafters(model):
        assert torch.equal(speculative(model, drafter, ids, attention_mask=mask), expected)
        found = speculative(model, drafter, ids, attention_mask=mask, **options)
        assert torch.equal(found, plain(model, ids, attention_mask=mask, **options))


@pytest.mark.parametrize("ends", [2, [2, 5, 33, 90], None])
def test_ends_are_those_of_the_call(ends: Any) -> None:
    for seed in range(6):
        ids = torch.tensor([random_ids(5, seed=seed)])
        expected = plain(MODEL, ids, eos_token_id=ends)
        for drafter in drafters(MODEL):
            assert torch.equal(speculative(MODEL, drafter, ids, eos_token_id=ends), expected)


@pytest.mark.parametrize("new", [1, 2, 7])
def test_lengths(new: int) -> None:
    for drafter in drafters(MODEL):
        assert speculative(MODEL, drafter, max_new_tokens=new).shape[1] == PROMPT.shape[1] + new
        longest = PROMPT.shape[1] + new
        config = GenerationConfig(max_length=longest, eos_token_id=None, pad_token_id=0)
        out = MODEL.generate(
            PROMPT,
            generation_config=config,
            custom_generate=speculative_generate,
            drafter=drafter,
        )
        assert out.shape[1] == longest
        own = StoppingCriteriaList([MaxLengthCriteria(longest)])
        assert torch.equal(
            speculative(MODEL, drafter, max_new_tokens=99, stopping_criteria=own),
            plain(MODEL, max_new_tokens=99, stopping_criteria=own),
        )
    assert MODEL.generate(
        PROMPT, custom_generate=speculative_generate, drafter=drafter, eos_token_id=None
    ).shape[1] == (PROMPT.shape[1] + 20)


class StopAt(StoppingCriteria):
    """Stops at ids, and counts how often it was asked."""

    def __init__(self, ids: set[int]) -> None:
        self.ids, self.lengths = ids, list[int]()

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        assert scores is None
        self.lengths.append(input_ids.shape[1])
        return torch.tensor([int(input_ids[0, -1]) in self.ids])


def test_criteria_of_the_caller_s_are_asked_after_every_token() -> None:
    text = plain(MODEL, eos_token_id=None)[0, PROMPT.shape[1] :].tolist()
    for stop in (text[0], text[1], text[4], text[9]):
        theirs, ours = StopAt({stop}), StopAt({stop})
        expected = plain(MODEL, eos_token_id=None, stopping_criteria=[theirs])
        for drafter in drafters(MODEL):
            ours.lengths.clear()
            found = speculative(MODEL, drafter, eos_token_id=None, stopping_criteria=[ours])
            assert torch.equal(found, expected)
            assert ours.lengths == theirs.lengths


def test_time_that_is_up_stops_at_the_first_token() -> None:
    out = speculative(MODEL, drafters(MODEL)[0], max_time=0.0)
    assert torch.equal(out, plain(MODEL, max_time=0.0))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose ids are bytes."""
    alphabet = {one: index for index, one in enumerate(sorted(ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_stop_strings_are_given_as_a_criterion() -> None:
    tokenizer = byte_tokenizer()
    model = tiny_model(vocab_size=256).double()
    text = plain(model, eos_token_id=None)[0, PROMPT.shape[1] :].tolist()
    letters = [tokenizer.convert_ids_to_tokens(one) for one in text]
    printed = [one for one in letters if one.isascii()]
    own = StoppingCriteriaList([StopStringCriteria(tokenizer, [printed[1]])])
    expected = plain(model, eos_token_id=None, stopping_criteria=own)
    assert PROMPT.shape[1] + 1 < expected.shape[1] < PROMPT.shape[1] + NEW
    drafter = lm_drafter(model, DraftVocab.full(256))
    for gamma in (1, 5):
        options = {"eos_token_id": None, "stopping_criteria": own, "gamma": gamma}
        assert torch.equal(speculative(model, drafter, **options), expected)
    with pytest.raises(ValueError, match="tokenizer"):
        speculative(model, drafter, stop_strings=["w6"])


class Heard:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.chunks: list[list[int]] = []
        self.ended = 0

    def put(self, tokens: torch.Tensor) -> None:
        assert not self.ended
        self.chunks.append(tokens.flatten().tolist())

    def end(self) -> None:
        self.ended += 1


def test_a_streamer_hears_what_it_hears_from_generate() -> None:
    theirs = Heard()
    plain(MODEL, streamer=theirs)
    for drafter in drafters(MODEL):
        ours = Heard()
        speculative(MODEL, drafter, streamer=ours)
        assert ours.chunks == theirs.chunks
        assert ours.ended == 1
    stopped = Heard()
    stop = StopAt({theirs.chunks[4][0]})
    speculative(MODEL, drafter, streamer=stopped, stopping_criteria=[stop])
    # not a token behind the end, though drafts behind it stood
    assert stopped.chunks == theirs.chunks[:5]


def test_a_dictionary_has_the_counts() -> None:
    drafter = lm_drafter(MODEL, vocabulary(V))
    out = speculative(
        MODEL, drafter, gamma=3, eos_token_id=None, max_new_tokens=9, return_dict_in_generate=True
    )
    assert isinstance(out, SpeculativeOutput)
    assert torch.equal(out.sequences, plain(MODEL, eos_token_id=None, max_new_tokens=9))
    assert out["sequences"] is out.sequences
    # the target drafts for itself: one token, then two cycles of four
    assert out.counts is not None
    assert out.counts.accepted.tolist() == [0, 0, 0, 2]
    assert out.counts.block_efficiency == 4.0


def test_likeliest_drafts_for_sampled_text() -> None:
    torch.manual_seed(0)
    for drafter in drafters(MODEL):
        out = speculative(MODEL, drafter, do_sample=True, greedy_drafts=True, eos_token_id=None)
        assert out.shape[1] == PROMPT.shape[1] + NEW


def test_a_drafter_is_needed_and_texts_stay_within_the_context() -> None:
    with pytest.raises(DecodeError, match="give generate a drafter"):
        MODEL.generate(PROMPT, custom_generate=speculative_generate, max_new_tokens=3)
    with pytest.raises(DecodeError, match="context is 256: lower max_new_tokens"):
        speculative(MODEL, drafters(MODEL)[0], max_new_tokens=256)
    with pytest.raises(DecodeError, match="gamma must be 0 or more"):
        speculative(MODEL, drafters(MODEL)[0], gamma=-1)


def test_texts_of_other_lengths_need_something_to_pad_with() -> None:
    model = tiny_model(vocab_size=256, pad_token_id=None, eos_token_id=None).double()
    ids = torch.tensor([random_ids(5, seed=seed) for seed in range(6)])
    every = [one for one in ByteLevel.alphabet() if one.isascii()]
    own = StoppingCriteriaList([StopStringCriteria(byte_tokenizer(), every)])
    drafter = lm_drafter(model, DraftVocab.full(256))
    options = {"attention_mask": torch.ones_like(ids), "stopping_criteria": own, "do_sample": True}
    torch.manual_seed(0)
    with pytest.raises(DecodeError, match="set pad_token_id"):
        speculative(model, drafter, ids, **options)
