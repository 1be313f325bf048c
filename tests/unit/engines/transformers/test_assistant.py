"""An assistant over K rows: where its logits go, what stays as it was, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    InfNanRemoveLogitsProcessor,
    LogitsProcessorList,
)

from tests.clean_drafters import IDS, trimmed_lm
from tests.tiny import edit, raw_tensors, tiny_lm, write_raw
from tests.tiny_models import KINDS, V, random_ids, reference_greedy, tiny_model, write_tokenizer
from tests.tiny_pairs import vocabulary
from vocabtrim.core.errors import CheckpointError, DecodeError, TokenizerMismatch, VocabError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.engines.transformers import load_assistant, reduced_assistant
from vocabtrim.engines.transformers.assistant import floor
from vocabtrim.tokens.tokenizer import Tokenizer

IDS_READ = torch.tensor([random_ids(9)])
VOCAB = vocabulary(20)


def assisted(target: Any, assistant: Any, gamma: int = 3, **options: Any) -> list[int]:
    """Return the new tokens of `generate` with an assistant, greedy unless told otherwise."""
    config = assistant.generation_config
    config.num_assistant_tokens, config.assistant_confidence_threshold = gamma, 0.0
    options = {"do_sample": False, "max_new_tokens": 20} | options
    out = target.generate(IDS_READ, assistant_model=assistant, **options)
    return [int(one) for one in out[0, IDS_READ.shape[1] :]]


def drafted(assistant: Any) -> list[int]:
    """Watch the ids that an assistant is fed; they fill as it reads."""
    seen: list[int] = []
    assistant.register_forward_pre_hook(
        lambda _module, _arguments, named: seen.extend(named["input_ids"].flatten().tolist()),
        with_kwargs=True,
    )
    return seen


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_kept_logits_are_those_of_the_model_in_their_places(kind: str) -> None:
    changes = {"final_logit_softcapping": 2.0} if kind == "gemma3" else {}
    model = tiny_model(kind, **changes)
    reduced = reduced_assistant(model, VOCAB)
    ids, full = torch.from_numpy(VOCAB.ids.copy()), model(IDS_READ).logits
    wide = reduced(IDS_READ).logits
    assert wide.shape == full.shape
    torch.testing.assert_close(wide[..., ids], full[..., ids])
    q = torch.softmax(wide, dim=-1)
    # exactly nothing elsewhere, also at high temperatures, behind a softcap or not
    assert float(q.sum(dim=-1).min()) == pytest.approx(1, abs=1e-6)
    q = torch.softmax(wide / 40, dim=-1)
    q[..., ids] = 0.0
    assert float(q.abs().max()) == 0.0


def test_no_row_is_computed_that_was_not_kept() -> None:
    reduced = reduced_assistant(tiny_model(), VOCAB)
    assert reduced.get_output_embeddings().weight.shape[0] == VOCAB.size


def test_the_model_that_was_given_stays_and_shares_its_weights() -> None:
    model = tiny_model(tie_word_embeddings=True)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    logits = model(IDS_READ).logits
    reduced = reduced_assistant(model, VOCAB)
    reduced.generation_config.num_assistant_tokens = 2
    assert torch.equal(model(IDS_READ).logits, logits)
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert model.config.tie_word_embeddings
    assert model.generation_config.num_assistant_tokens != 2
    embedding = reduced.get_input_embeddings().weight
    assert embedding.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    # a second vocabulary of the same model is no matter of the first
    other = reduced_assistant(model, vocabulary(30))
    assert other.get_output_embeddings().weight.shape[0] == 30
    assert reduced.get_output_embeddings().weight.shape[0] == 20


def test_a_bias_follows_its_rows() -> None:
    model = tiny_model()
    head = torch.nn.Linear(*reversed(model.lm_head.weight.shape), bias=True)
    torch.nn.init.normal_(head.bias)
    model.set_output_embeddings(head)
    ids = torch.from_numpy(VOCAB.ids.copy())
    with torch.no_grad():
        kept = reduced_assistant(model, VOCAB)(IDS_READ).logits[..., ids]
        torch.testing.assert_close(kept, model(IDS_READ).logits[..., ids])


def test_another_architecture() -> None:
    shape = {"vocab_size": V, "hidden_size": 32, "intermediate_size": 64}
    config = GPTNeoXConfig(**shape, num_hidden_layers=1, num_attention_heads=4)
    model = GPTNeoXForCausalLM(config).eval()
    reduced = reduced_assistant(model, VOCAB)
    assert reduced.get_output_embeddings().weight.shape[0] == 20
    with torch.no_grad():
        assert int(reduced(IDS_READ).logits[0, -1].argmax()) in VOCAB.ids


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_is_the_target_s_own(kind: str) -> None:
    target = tiny_model(kind)
    expected = reference_greedy(target, IDS_READ[0].tolist(), 20)
    for vocab in (vocabulary(1), VOCAB, vocabulary(V)):
        reduced = reduced_assistant(tiny_model(kind), vocab)
        seen = drafted(reduced)
        assert assisted(target, reduced) == expected
        # every id that it read and did not get from the target is one of its own
        own = set(seen) - set(IDS_READ[0].tolist()) - set(expected)
        assert own <= set(vocab.ids.tolist())


def test_an_assistant_that_agrees_is_accepted() -> None:
    target = tiny_model()
    expected = reference_greedy(target, IDS_READ[0].tolist(), 12)
    seen: list[int] = []
    target.register_forward_pre_hook(lambda *_: seen.append(1))
    assisted(target, reduced_assistant(target, vocabulary(V)), gamma=3, max_new_tokens=12)
    assert len(expected) == 12
    # the twin of the target has the hook as well: 3 passes of it for each of the target's
    assert len(seen) == pytest.approx(12 / 4 * 4, abs=3)


def test_a_vocabulary_that_is_padded_otherwise() -> None:
    target, small = tiny_model(vocab_size=V + 32), tiny_model()
    with pytest.raises(ValueError, match="different tokenizers"):
        assisted(target, reduced_assistant(small, VOCAB))
    reduced = reduced_assistant(small, VOCAB, target=target)
    expected = reference_greedy(target, IDS_READ[0].tolist(), 20)
    # also behind ids that the assistant's embedding does not have
    assert max(expected) >= V
    assert assisted(target, reduced) == expected
    assert reduced(IDS_READ).logits.shape[-1] == V + 32
    assert small.config.vocab_size == V
    wide = tiny_model(vocab_size=V + 32)
    with pytest.raises(VocabError):
        reduced_assistant(wide, DraftVocab.from_ids([V + 1], V + 32), target=small)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.05},
        {"temperature": 30.0},
        {"top_k": 50},
        {"top_k": 1},
        {"top_p": 0.01},
        {"min_p": 0.9},
        {"typical_p": 0.2},
        {"epsilon_cutoff": 0.5},
        {"eta_cutoff": 0.5},
        {"top_h": 0.4},
        {"renormalize_logits": True},
        {"remove_invalid_values": True},
        {"repetition_penalty": 3.0},
        {"no_repeat_ngram_size": 1},
        {"exponential_decay_length_penalty": (1, 3.0)},
        {"forced_eos_token_id": 2},
        {"min_new_tokens": 12},
        {"suppress_tokens": [1, 50]},
        {"bad_words_ids": [[5], [95]]},
        {"sequence_bias": {(50,): -9.0, (7,): 9.0}},
        {"prefix_allowed_tokens_fn": lambda _batch, ids: [(int(ids[-1]) + 1) % 90 + 3]},
    ],
    ids=",".join,
)
@pytest.mark.parametrize("size", [1, 20])
def test_every_filter_and_processor_of_generate(options: dict[str, Any], size: int) -> None:
    reduced = reduced_assistant(tiny_model(), vocabulary(size))
    for seed in range(3):
        torch.manual_seed(seed)
        tokens = assisted(tiny_model(seed=4), reduced, do_sample=True, **options)
        assert 1 <= len(tokens) <= 20
    if "suppress_tokens" in options:
        assert not {1, 50} & set(tokens)
    if "prefix_allowed_tokens_fn" in options:
        steps = pairwise(tokens)
        assert all(now == (before + 1) % 90 + 3 for before, now in steps)


def test_where_every_kept_id_is_forbidden_something_allowed_is_drafted() -> None:
    vocab = DraftVocab.from_ids([2, 50], V)
    reduced = reduced_assistant(tiny_model(), vocab)
    tokens = assisted(tiny_model(seed=4), reduced, do_sample=True, suppress_tokens=[2, 50])
    assert len(tokens) == 20
    assert not {2, 50} & set(tokens)


def test_what_is_put_in_for_the_rest_lies_between_two_bounds() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        low = torch.tensor(floor(dtype), dtype=dtype)
        assert bool(torch.isfinite(low))
        assert float(low) <= -30_000
        # two passes of a low temperature, as `generate` gives an assistant
        assert bool(torch.isfinite(low.float() / 0.1 / 0.1))
    processed = InfNanRemoveLogitsProcessor()(IDS_READ, torch.tensor([[floor(torch.float32)]]))
    assert float(processed) == floor(torch.float32)
    assert LogitsProcessorList([]) == []


def test_a_trimmed_directory_is_opened(tmp_path: Path) -> None:
    path = trimmed_lm(tmp_path / "d")
    assistant = load_assistant(path)
    assert assistant.get_output_embeddings().weight.shape[0] == IDS.size
    stored = raw_tensors(path)["lm_head.weight"]
    rows = np.frombuffer(stored[2], "<f4").reshape(stored[1])
    np.testing.assert_array_equal(assistant.get_output_embeddings().weight.numpy(), rows)
    with torch.no_grad():
        logits = assistant(torch.tensor([[5, 9]])).logits[0, -1]
    assert logits.shape == (256,)
    assert set(logits.topk(IDS.size).indices.tolist()) == set(IDS.tolist())
    fewer = load_assistant(path, DraftVocab(IDS[::2], 256), dtype="bfloat16")
    np.testing.assert_array_equal(
        fewer.get_output_embeddings().weight.float().numpy(),
        torch.from_numpy(rows[::2].copy()).bfloat16().float().numpy(),
    )
    with pytest.raises(VocabError, match="have no row"):
        load_assistant(path, DraftVocab.from_ids([0, 1, 2, 3], 256))


def test_a_whole_directory_drafts_like_the_model(tmp_path: Path) -> None:
    tiny_model(tie_word_embeddings=True).save_pretrained(tmp_path / "d")
    whole, few = load_assistant(tmp_path / "d"), load_assistant(tmp_path / "d", VOCAB)
    with torch.no_grad():
        full = tiny_model(tie_word_embeddings=True)(IDS_READ).logits
        torch.testing.assert_close(whole(IDS_READ).logits, full)
        ids = torch.from_numpy(VOCAB.ids.copy())
        torch.testing.assert_close(few(IDS_READ).logits[..., ids], full[..., ids])


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="dtype must be one of"):
        load_assistant(tiny_lm(tmp_path / "a"), dtype="int8")
    path = tiny_lm(tmp_path / "b")
    tensors = raw_tensors(path)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    write_raw(path, tensors)
    with pytest.raises(DecodeError, match=r"weights of model\.layers\.0\.mlp\.up_proj\.weight"):
        load_assistant(path)
    with pytest.raises(DecodeError, match="cannot load it as a causal LM"):
        load_assistant(edit(tiny_lm(tmp_path / "c"), config={"model_type": "nothing"}))
    with pytest.raises(CheckpointError):
        load_assistant(tmp_path / "nowhere")
    path = write_tokenizer(tiny_lm(tmp_path / "d"), chat=False)
    known = Tokenizer.open(path).fingerprint
    load_assistant(path, DraftVocab(VOCAB.ids, V, known))
    with pytest.raises(TokenizerMismatch, match="made with another tokenizer"):
        load_assistant(path, DraftVocab(VOCAB.ids, V, "sha256:" + "0" * 64))


def test_a_head_that_is_no_matrix_or_reduced_already() -> None:
    model = tiny_model()
    with pytest.raises(DecodeError, match="has 20 rows for a vocabulary of 96"):
        reduced_assistant(reduced_assistant(model, VOCAB), vocabulary(10))
    with pytest.raises(VocabError):
        reduced_assistant(model, DraftVocab.from_ids([V + 5], V + 8))
    model.set_output_embeddings(torch.nn.Sequential())
    with pytest.raises(DecodeError, match="head is a Sequential"):
        reduced_assistant(model, VOCAB)
