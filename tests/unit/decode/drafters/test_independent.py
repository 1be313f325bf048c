"""The independent drafter: its cache, its drafts, and what it never computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import edit, tiny_lm
from tests.tiny_models import KINDS, V, random_ids, tiny_model
from tests.tiny_pairs import Dimensions, Watched, lm_drafter, vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.drafters.independent import load_trunk
from vocabtrim.decode.target import Target

MODELS = {kind: tiny_model(kind) for kind in KINDS}
IDS = random_ids(60, seed=7)


@torch.no_grad()
def plain_draft(model: Any, ids: list[int], kept: list[int], length: int) -> list[int]:
    """Draft by full logits and a fresh pass for each token, ids outside `kept` masked."""
    draft: list[int] = []
    for _ in range(length):
        logits = model(torch.tensor([ids + draft]), use_cache=False).logits[0, -1]
        draft.append(max(kept, key=lambda one: float(logits[one])))
    return draft


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 5, V])
def test_drafts_are_those_of_the_masked_full_model(kind: str, size: int) -> None:
    model, vocab = MODELS[kind], vocabulary(size)
    drafter = lm_drafter(model, vocab)
    drafter.begin(60)
    text: list[int] = []
    for count in (1, 12, 1, 3):
        text += IDS[len(text) : len(text) + count]
        drafter.commit(text[-count:], None)
        assert drafter.propose(4) == plain_draft(model, text, vocab.ids.tolist(), 4)
        assert drafter.cache.lengths[0] == len(text)
        assert drafter.unread == ((),)


def test_what_is_committed_waits_for_the_next_draft() -> None:
    drafter = lm_drafter(MODELS["llama"], vocabulary(5))
    drafter.begin(20)
    drafter.commit(IDS[:4], None)
    drafter.commit(IDS[4:6], None)
    assert drafter.unread == (tuple(IDS[:6]),)
    assert drafter.cache.lengths == (0,)
    drafter.propose(1)
    assert (drafter.cache.lengths, drafter.unread) == ((6,), ((),))
    drafter.begin(20)
    assert (drafter.cache.lengths, drafter.unread) == ((0,), ((),))
    drafter.commit(IDS[:1], None)
    drafter.begin(20)
    assert drafter.unread == ((),)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 5, V])
@pytest.mark.parametrize("prompt", [1, 11])
def test_every_cycle_begins_as_a_fresh_pass_would(kind: str, size: int, prompt: int) -> None:
    target, other = MODELS[kind], tiny_model(kind, seed=1)
    vocab = vocabulary(size)
    watch = Watched(lm_drafter(other, vocab), lm_drafter(other, vocab), target)
    text = speculate(Target(target), watch, IDS[:prompt], gamma=3, max_new_tokens=14)
    assert len(watch.drafts) >= 3
    assert watch.committed == (IDS[:prompt] + list(text.token_ids))[: len(watch.committed)]


@pytest.mark.parametrize("gamma", [1, 2, 5])
def test_a_drafter_that_is_the_target_is_always_right(gamma: int) -> None:
    # fully accepted drafts: the last accepted token was proposed and never read
    model = tiny_model("gemma3", eos_token_id=None)
    model.generation_config.eos_token_id = None
    watch = Watched(lm_drafter(model, vocabulary(V)), lm_drafter(model, vocabulary(V)), model)
    text = speculate(Target(model), watch, IDS[:9], gamma=gamma, max_new_tokens=1 + 4 * (gamma + 1))
    assert text.counts.block_efficiency == gamma + 1
    assert text.counts.accepted.tolist() == [0] * gamma + [4]


def test_a_drafter_that_is_never_right_starts_afresh_each_cycle() -> None:
    model = MODELS["llama"]
    alone = vocabulary(1)
    watch = Watched(lm_drafter(model, alone), lm_drafter(model, alone), model)
    text = speculate(Target(model), watch, IDS[:9], gamma=3, max_new_tokens=8)
    assert alone.ids[0] not in text.token_ids
    assert text.counts.block_efficiency == 1.0
    assert all(draft == [alone.ids[0]] * len(draft) for draft in watch.drafts)


def test_following_given_drafts_reads_as_if_it_had_drafted_them() -> None:
    model, vocab = MODELS["mistral"], vocabulary(V)
    drafter = lm_drafter(model, vocab)
    for count in (0, 1, 4):
        drafter.begin(40)
        drafter.commit(IDS[:10], None)
        states = drafter.follow(IDS[10 : 10 + count])
        assert states.shape == (count + 1, 32)
        with torch.no_grad():
            fresh = model.model(torch.tensor([IDS[: 10 + count]]), use_cache=False)
        expected = fresh.last_hidden_state[0, -count - 1 :]
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
        assert drafter.cache.lengths[0] == 10
        drafter.commit(IDS[10:12], None)
        assert drafter.propose(3) == plain_draft(model, IDS[:12], vocab.ids.tolist(), 3)


def test_a_trimmed_draft_step_has_nothing_v_wide() -> None:
    seen = {}
    for size in (5, V):
        drafter = lm_drafter(MODELS["llama"], vocabulary(size))
        drafter.begin(20)
        drafter.commit(IDS[:4], None)
        with Dimensions() as computed:
            drafter.propose(3)
        seen[size] = computed.seen
    assert V in seen[V]
    assert 5 in seen[5]
    assert max(seen[5]) < V


@pytest.mark.parametrize("tied", [True, False])
def test_a_trunk_is_loaded_without_its_head(tmp_path: Path, tied: bool) -> None:
    tiny_lm(tmp_path, tied=tied)
    trunk = load_trunk(tmp_path, torch.bfloat16, torch.device("cpu"))
    assert trunk.dtype == torch.bfloat16
    assert not trunk.training
    assert not hasattr(trunk, "lm_head")


def test_a_trunk_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    # transformers would fill it at random, and say so where nobody reads
    edit(tiny_lm(tmp_path), drop=["model.layers.1.mlp.up_proj.weight"])
    with pytest.raises(DecodeError, match=r"weights of layers\.1\.mlp\.up_proj\.weight are missi"):
        load_trunk(tmp_path, torch.float32, torch.device("cpu"))


def test_what_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    unknown = edit(tiny_lm(tmp_path / "unknown"), config={"model_type": "no-such"})
    with pytest.raises(DecodeError, match="cannot load its trunk") as caught:
        load_trunk(unknown, torch.float32, cpu)
    assert "\n" not in str(caught.value)
    cut = tiny_lm(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-64])
    with pytest.raises(DecodeError, match="cannot load its trunk"):
        load_trunk(cut.parent, torch.float32, cpu)
    wider = edit(tiny_lm(tmp_path / "wider"), config={"intermediate_size": 65})
    with pytest.raises(DecodeError, match="cannot load its trunk"):
        load_trunk(wider, torch.float32, cpu)


def test_a_trunk_whose_cache_cannot_be_cropped_is_refused(tmp_path: Path) -> None:
    kinds = ["full_attention", "chunked_attention"]
    chunked = edit(tiny_lm(tmp_path), config={"layer_types": kinds})
    with pytest.raises(DecodeError, match="layer 1 is of type chunked_attention"):
        load_trunk(chunked, torch.float32, torch.device("cpu"))
