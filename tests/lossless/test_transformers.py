"""Sampling inside `generate` of `transformers` against the exact law of a tiny model.

The same test of the same target, three times: `transformers`' own pruned assistant
fails it (it puts q in the places of other tokens), an assistant with our head passes
it, and so does our decoder behind `custom_generate`. The first two go one text at a
time, so that these are fewer.

Each comparison has a false-alarm probability of 1e-10 (`tests/distributions.py`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from tests.distributions import FALSE_ALARM, MOST_TESTS, Joint, joint_of, p_value
from tests.lossless.skewed_pair import (
    EOS,
    LENGTH,
    MODEL,
    PROMPT,
    SAMPLINGS,
    VOCABS,
    Texts,
    V,
    exact,
    logits_behind,
    out_of_tune,
    vocabulary,
)
from tests.lossless.test_sampled import eagle3, independent, require_drafts_of_both_kinds
from tests.tiny_models import tiny_model
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.sampling import Sampling
from vocabtrim.engines.transformers import reduced_assistant, speculative_generate

pytestmark = pytest.mark.proof

N_STOCK, N_ASSISTED, N, ROWS = 1_000, 3_000, 20_000, 5_000
READ = torch.tensor([PROMPT])
ASSISTED = list(zip(VOCABS, [*SAMPLINGS, SAMPLINGS[0]], strict=True))
BEHIND = [
    (make, name, SAMPLINGS[(row + shift) % 4], 1 + (row + shift) % 3)
    for shift, make in enumerate((independent, eagle3))
    for row, name in enumerate(VOCABS)
]


def options(sampling: Sampling) -> dict[str, Any]:
    """Return a sampling as `generate` is told it."""
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or 0,
        "top_p": sampling.top_p or 1.0,
    }


class Counted:
    """Counts the passes of a model that verify, and the tokens of each."""

    def __init__(self, model: Any) -> None:
        self.widths: list[int] = []
        self.hook = model.register_forward_pre_hook(self.seen, with_kwargs=True)

    def seen(self, _module: Any, _arguments: Any, named: Any) -> None:
        self.widths.append(named["input_ids"].shape[1])


def assisted(assistant: Any, sampling: Sampling, count: int, **more: Any) -> Texts:
    """Let `generate` write texts one by one with an assistant that drafts two tokens."""
    config = assistant.generation_config
    config.num_assistant_tokens, config.assistant_confidence_threshold = 2, 0.0
    torch.manual_seed(11)
    texts = []
    for _ in range(count):
        out = MODEL.generate(
            READ,
            assistant_model=assistant,
            max_new_tokens=LENGTH,
            **options(sampling),
            **more,
        )
        texts.append(tuple(out[0, len(PROMPT) :].tolist()))
    return texts


class Words(PreTrainedTokenizerFast):
    """A tokenizer whose vocabulary is read from the last id to the first.

    Elsewhere that order is a hash map's, another in each process, and the pruned head is
    wrong by as much as it differs from that of the ids: now and then by hardly anything.
    """

    def get_vocab(self) -> dict[str, int]:
        return dict(sorted(super().get_vocab().items(), key=lambda item: -item[1]))


def words(names: list[str]) -> Words:
    """Return a tokenizer of words in the order of their ids."""
    ids = {name: index for index, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=names[-1]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Words(tokenizer_object=backend, unk_token=names[-1])


def stock_pruned() -> tuple[Any, dict[str, Any]]:
    """Return an assistant of another tokenizer, whose head `transformers` prunes.

    It is the drafter of the other tests, all of the target's words in another order
    behind some that the target has not.
    """
    order = torch.randperm(V, generator=torch.Generator().manual_seed(5)).tolist()
    ours = [f"w{index}" for index in range(V)]
    theirs = [*(f"x{index}" for index in range(4)), *(ours[one] for one in order), "?"]
    assistant, drafter = tiny_model(vocab_size=len(theirs), eos_token_id=EOS), out_of_tune()
    rows = torch.tensor([0, 0, 0, 0, *order, 0])
    state = drafter.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = state[name][rows]
    assistant.load_state_dict(state)
    return assistant, {"tokenizer": words(ours), "assistant_tokenizer": words(theirs)}


@cache
def law(sampling: Sampling) -> Joint:
    return exact(sampling)


def test_the_family_is_small_enough_for_its_false_alarms() -> None:
    assert len(ASSISTED) + len(BEHIND) + 2 <= MOST_TESTS


def test_the_pruned_head_of_transformers_is_found() -> None:
    assistant, tokenizers = stock_pruned()
    sample = assisted(assistant, SAMPLINGS[0], N_STOCK, **tokenizers)
    assert assistant.get_output_embeddings().pruned_lm_head.weight.shape[0] == V
    assert p_value(sample, law(SAMPLINGS[0])) < FALSE_ALARM


@pytest.mark.parametrize(("name", "sampling"), ASSISTED, ids=str)
def test_an_assistant_with_our_head(name: str, sampling: Sampling) -> None:
    counted = Counted(MODEL)
    try:
        sample = assisted(reduced_assistant(out_of_tune(), vocabulary(name)), sampling, N_ASSISTED)
    finally:
        counted.hook.remove()
    assert p_value(sample, law(sampling)) > FALSE_ALARM
    # three tokens take three passes where no draft stands, and one where all do
    assert N_ASSISTED < len(counted.widths) < 2.9 * N_ASSISTED


@pytest.mark.parametrize(("make", "name", "sampling", "gamma"), BEHIND)
def test_our_decoder_behind_generate(make: Any, name: str, sampling: Sampling, gamma: int) -> None:
    drafter, sample, counts = make(vocabulary(name)), Texts(), AcceptCounts.zero(gamma)
    torch.manual_seed(7)
    for _ in range(N // ROWS):
        out = MODEL.generate(
            READ,
            custom_generate=speculative_generate,
            drafter=drafter,
            gamma=gamma,
            max_new_tokens=LENGTH + gamma,
            num_return_sequences=ROWS,
            return_dict_in_generate=True,
            **options(sampling),
        )
        counts += out.counts
        sample += map(ended, out.sequences[:, len(PROMPT) :].tolist())
    assert p_value(sample, law(sampling)) > FALSE_ALARM
    require_drafts_of_both_kinds(counts)


def ended(text: list[int]) -> tuple[int, ...]:
    """Return the first tokens of a text, up to its end."""
    first = text[:LENGTH]
    return tuple(first[: first.index(EOS) + 1] if EOS in first else first)


def test_a_processor_shapes_the_law_of_our_decoder() -> None:
    """Behind id i, id i + 1 is likelier and id i cannot come: a function of the text so far."""

    def shape(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        shaped, last = scores.clone(), int(ids[0, -1])
        shaped[:, (last + 1) % V] += 1.0
        shaped[:, last] = float("-inf")
        return shaped

    def following(prefix: tuple[int, ...]) -> Any:
        ids = torch.tensor([[*PROMPT, *prefix]])
        return torch.softmax(shape(ids, logits_behind(prefix).double()), dim=-1)[0].numpy()

    drafter, sample = independent(vocabulary("K=11 without the likeliest")), Texts()
    torch.manual_seed(3)
    for _ in range(N_ASSISTED):
        out = MODEL.generate(
            READ,
            custom_generate=speculative_generate,
            drafter=drafter,
            gamma=2,
            max_new_tokens=LENGTH,
            do_sample=True,
            top_k=0,
            logits_processor=LogitsProcessorList([shape]),
        )
        sample.append(tuple(out[0, len(PROMPT) :].tolist()))
    assert p_value(sample, joint_of(following, LENGTH, [EOS])) > FALSE_ALARM
    assert p_value(sample, law(SAMPLINGS[0])) < FALSE_ALARM
