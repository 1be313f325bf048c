"""The EAGLE-3 layer against a plain computation, its cache against fresh passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tiny_models import H, V, random_ids, tiny_model
from tests.tiny_pairs import (
    EAGLE_CONFIG,
    LAYERS,
    Dimensions,
    Watched,
    eagle_drafter,
    eagle_tensors,
    fresh_features,
    markov_pair,
    plain_eagle3,
    reduced,
    vocabulary,
)
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
from vocabtrim.decode.drafters.eagle3_layer import OTHER_ARITHMETIC
from vocabtrim.decode.target import Target

KINDS = ("llama", "gemma3", "mistral")
MODELS = {kind: tiny_model(kind) for kind in KINDS}
MODEL = MODELS["llama"]
IDS = random_ids(60, seed=11)


def made(tensors: dict[str, Any], **config: Any) -> Eagle3Drafter:
    embeddings = MODEL.get_input_embeddings().weight.detach()
    head = reduced(MODEL, vocabulary(V))
    return Eagle3Drafter(EAGLE_CONFIG | config, tensors, embeddings, head, LAYERS)


def plain_draft(
    tensors: dict[str, Any], ids: list[int], vocab: DraftVocab, length: int
) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Draft with the plain layer; also its keys and values of the committed pairs."""
    embeddings = MODEL.get_input_embeddings().weight.detach()
    head = MODEL.get_output_embeddings().weight.detach()
    features = fresh_features(MODEL, ids[:-1], LAYERS) @ tensors["fc.weight"].T
    embedded = embeddings[torch.tensor(ids[1:])]
    draft: list[int] = []
    keys, values, states = plain_eagle3(tensors, EAGLE_CONFIG, embedded, features)
    while True:
        last = states[-1]
        scale = torch.sqrt((last * last).mean() + EAGLE_CONFIG["rms_norm_eps"])
        logits = head @ (tensors["norm.weight"] * last / scale)
        draft.append(max(vocab.ids.tolist(), key=lambda one: float(logits[one])))
        if len(draft) == length:
            return draft, keys, values
        # where the target has no feature yet, the layer's own output stands in
        features = torch.cat([features, last[None]])
        embedded = torch.cat([embedded, embeddings[draft[-1]][None]])
        _, _, states = plain_eagle3(tensors, EAGLE_CONFIG, embedded, features)


@pytest.mark.parametrize("size", [1, 5, V])
@pytest.mark.parametrize("prompt", [2, 13])
def test_layer_and_drafts_equal_a_plain_computation(size: int, prompt: int) -> None:
    vocab, ids = vocabulary(size), IDS[:prompt]
    drafter = eagle_drafter(MODEL, vocab, seed=4)
    drafter.begin(40)
    drafter.commit(ids, fresh_features(MODEL, ids[:-1], LAYERS))
    draft, keys, values = plain_draft(eagle_tensors(4), ids, vocab, 4)
    assert drafter.propose(4) == draft
    for ours, theirs in zip(drafter.cache.layer(0), (keys, values), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    # further commits see what was there before, and no draft
    drafter.commit(IDS[prompt : prompt + 3], fresh_features(MODEL, IDS[: prompt + 2], LAYERS)[-3:])
    draft, keys, values = plain_draft(eagle_tensors(4), IDS[: prompt + 3], vocab, 4)
    assert drafter.propose(4) == draft
    for ours, theirs in zip(drafter.cache.layer(0), (keys, values), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_biases_are_added() -> None:
    # a bias on v and o moves every state by o_proj(b_v) + b_o before the MLP
    tensors = eagle_tensors(1) | {"midlayer.mlp.down_proj.weight": torch.zeros(H, 2 * H)}
    biased = tensors | {
        "midlayer.self_attn.v_proj.bias": torch.full((16,), 0.5),
        "midlayer.self_attn.o_proj.bias": torch.full((H,), 0.25),
    }
    states = []
    for one in (tensors, biased):
        drafter = made(one)
        drafter.begin(10)
        drafter.commit(IDS[:6], fresh_features(MODEL, IDS[:5], LAYERS))
        states.append(drafter._read_committed()[0])
    moved = tensors["midlayer.self_attn.o_proj.weight"] @ torch.full((32,), 0.5) + 0.25
    torch.testing.assert_close(states[1], states[0] + moved)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 5, V])
@pytest.mark.parametrize("prompt", [1, 11])
def test_every_cycle_begins_as_a_fresh_pass_would(kind: str, size: int, prompt: int) -> None:
    model, vocab = MODELS[kind], vocabulary(size)
    watch = Watched(eagle_drafter(model, vocab), eagle_drafter(model, vocab), model)
    text = speculate(Target(model, LAYERS), watch, IDS[:prompt], gamma=3, max_new_tokens=14)
    assert len(watch.drafts) >= 3
    assert watch.committed == (IDS[:prompt] + list(text.token_ids))[: len(watch.committed)]


@pytest.mark.parametrize("gamma", [1, 2, 5])
def test_a_planted_drafter_is_always_right(gamma: int) -> None:
    model, drafter = markov_pair(vocabulary(V))
    watch = Watched(drafter, markov_pair(vocabulary(V))[1], model)
    text = speculate(
        Target(model, LAYERS), watch, IDS[:9], gamma=gamma, max_new_tokens=1 + 4 * (gamma + 1)
    )
    assert text.counts.block_efficiency == gamma + 1
    assert text.counts.accepted.tolist() == [0] * gamma + [4]
    assert len(set(text.token_ids)) == len(text.token_ids)


def test_trimmed_it_is_right_wherever_its_vocabulary_allows() -> None:
    vocab = vocabulary(48)
    model, drafter = markov_pair(vocab)
    watch = Watched(drafter, markov_pair(vocab)[1], model)
    text = speculate(Target(model, LAYERS), watch, IDS[:9], gamma=3, max_new_tokens=40)
    kept = set(vocab.ids.tolist())
    cycles, rest = [], list(text.token_ids[1:])
    while rest:
        drafted = min(3, len(rest) - 1)
        accepted = 0
        while accepted < drafted and rest[accepted] in kept:
            accepted += 1
        cycles.append(accepted)
        rest = rest[accepted + 1 :]
    assert text.counts.accepted.tolist() == [cycles.count(n) for n in range(4)]
    assert min(text.counts.accepted) > 0


def test_the_first_token_of_a_text_has_no_feature_before_it() -> None:
    drafter = eagle_drafter(MODEL, vocabulary(5))
    drafter.begin(20)
    features = fresh_features(MODEL, IDS[:4], LAYERS)
    drafter.commit(IDS[:4], features[:3])
    assert drafter.unread == (tuple(IDS[1:4]),)
    drafter.commit(IDS[4:5], features[3:])
    assert drafter.unread == (tuple(IDS[1:5]),)
    drafter.propose(1)
    assert drafter.cache.lengths == (4,)
    drafter.begin(20)
    assert drafter.cache.lengths == (0,)
    drafter.commit(IDS[:1], features[:0])
    for draft in (lambda: drafter.propose(1), lambda: drafter.follow([])):
        with pytest.raises(DecodeError, match="EAGLE-3 drafts from the second on"):
            draft()


def test_beginning_again_forgets_the_state() -> None:
    drafter = eagle_drafter(MODEL, vocabulary(5))
    drafter.begin(20)
    drafter.commit(IDS[:4], fresh_features(MODEL, IDS[:3], LAYERS))
    drafter.propose(1)
    drafter.begin(20)
    with pytest.raises(DecodeError, match="no committed token to draft from"):
        drafter.propose(1)


@pytest.mark.parametrize(("given", "says"), [(None, "found none"), (2, "found 2"), (4, "found 4")])
def test_features_must_be_as_many_as_tokens(given: int | None, says: str) -> None:
    drafter = eagle_drafter(MODEL, vocabulary(5))
    drafter.begin(20)
    features = None if given is None else fresh_features(MODEL, IDS[:given], LAYERS)
    with pytest.raises(DecodeError, match=f"3 tokens need as many features, {says}"):
        drafter.commit(IDS[:4], features)


def test_following_given_drafts_reads_as_if_it_had_drafted_them() -> None:
    vocab = vocabulary(V)
    drafter = eagle_drafter(MODEL, vocab, seed=2)
    drafter.begin(40)
    drafter.commit(IDS[:8], fresh_features(MODEL, IDS[:7], LAYERS))
    draft = drafter.propose(4)
    states = drafter.follow(draft[:3])
    assert [int(drafter.head.best(state)) for state in states] == draft
    assert drafter.follow([]).shape == (1, H)
    assert drafter.cache.lengths[0] == 7
    assert drafter.propose(4) == draft


def test_a_trimmed_draft_step_has_nothing_v_wide() -> None:
    seen = {}
    for size in (5, V):
        drafter = eagle_drafter(MODEL, vocabulary(size))
        drafter.begin(20)
        drafter.commit(IDS[:4], fresh_features(MODEL, IDS[:3], LAYERS))
        # features, V wide by chance, are read once for all
        drafter.propose(1)
        with Dimensions() as computed:
            drafter.propose(3)
        seen[size] = computed.seen
    assert V in seen[V]
    assert 5 in seen[5]
    assert max(seen[5]) < V


@pytest.mark.parametrize("prefix", ["midlayer.", "layers.0."])
def test_both_names_of_the_layer(prefix: str) -> None:
    drafts = []
    for tensors in (eagle_tensors(5), eagle_tensors(5, prefix=prefix)):
        drafter = made(tensors | {"d2t": torch.zeros(V), "lm_head.weight": torch.zeros(V, H)})
        drafter.begin(20)
        drafter.commit(IDS[:6], fresh_features(MODEL, IDS[:5], LAYERS))
        drafts.append(drafter.propose(4))
    assert drafts[0] == drafts[1]


@pytest.mark.parametrize("name", sorted(eagle_tensors(0)))
def test_every_weight_is_needed(name: str) -> None:
    tensors = eagle_tensors(0)
    del tensors[name]
    bare = name.removeprefix("midlayer.")
    with pytest.raises(DecodeError, match=f"the EAGLE-3 drafter has no tensor {bare}"):
        made(tensors)


@pytest.mark.parametrize("name", ["midlayer.self_attn.q_norm.weight", "fc2.weight", "norm.bias"])
def test_a_weight_without_a_place_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match=name.removeprefix("midlayer.")):
        made(eagle_tensors(0) | {name: torch.zeros(H)})


@pytest.mark.parametrize("flag", OTHER_ARITHMETIC)
def test_other_arithmetic_is_refused_by_name(flag: str) -> None:
    for config in ({flag: True}, {"eagle_config": {flag: True}}):
        with pytest.raises(DecodeError, match=f"drafters with {flag} are not decoded here"):
            made(eagle_tensors(0), **config)
    made(eagle_tensors(0), **{flag: False, "eagle_config": {flag: False}})
