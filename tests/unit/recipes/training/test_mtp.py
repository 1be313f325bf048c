"""A target with a prediction layer: shapes, drafting along a text, saving."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recipes.training.mtp import Shape, Target, by_position
from vocabtrim.families.mtp import PLUGIN
from vocabtrim.tensors.checkpoint import Checkpoint

SMALL = Shape(vocab_size=64, hidden_size=32, heads=2, intermediate_size=48, positions=64)


@pytest.fixture
def target() -> Target:
    torch.manual_seed(0)
    return Target(SMALL).eval()


def test_it_is_a_target_with_prediction_layers(target: Target, tmp_path: Path) -> None:
    target.save(tmp_path)
    saved = Checkpoint.open(tmp_path)
    assert PLUGIN.matches(saved)
    assert saved.config["model_type"] == "qwen3_5_text"
    assert "mtp.layers.0.self_attn.q_proj.weight" in saved.tensors


def test_what_is_saved_is_loaded(target: Target, tmp_path: Path) -> None:
    target.save(tmp_path)
    again = Target.load(tmp_path, SMALL)
    ids = torch.arange(10)[None]
    hidden = target.features(ids)
    assert torch.equal(hidden, again.features(ids))
    following = ids.roll(-1)
    assert torch.equal(target.predict(hidden, following), again.predict(hidden, following))


def test_a_prediction_does_not_look_ahead(target: Target) -> None:
    ids = torch.arange(1, 13)[None]
    hidden = target.features(ids)
    whole = target.predict(hidden[:, :-1], ids[:, 1:])
    part = target.predict(hidden[:, :5], ids[:, 1:6])
    assert torch.allclose(whole[:, :5], part, atol=1e-6)


def test_both_learn(target: Target) -> None:
    ids = torch.arange(8)[None]
    before = target.loss(ids)
    before.backward()
    assert all(one.grad is not None for one in target.parameters())
    with torch.no_grad():
        for one in target.parameters():
            one.sub_(0.01 * one.grad)
    assert target.loss(ids) < before


@torch.no_grad()
def test_drafts_are_counted_as_a_decoder_counts_them(target: Target) -> None:
    """Against a loop that says of each cycle what it drafted, from the layer's own outputs."""
    gamma, tokens = 3, 12
    text = target.greedy(torch.tensor([[5, 9, 2]]), tokens + gamma + 1)[0]
    for kept in (None, torch.arange(0, 64, 2)):
        counts = target.accepted(text, 3, tokens, gamma, kept)
        assert len(counts) >= tokens / (gamma + 1) - 1
        known = 4
        for count in counts:
            drafts = drafted(target, text, known, gamma, kept)
            agree = [one == int(text[known + depth]) for depth, one in enumerate(drafts)]
            assert count == [*agree, False].index(False)
            if kept is not None:
                assert all(one % 2 == 0 for one in drafts)
            known += count + 1
        assert known - 3 >= tokens > known - 3 - counts[-1] - 1


def drafted(
    target: Target, text: torch.Tensor, known: int, gamma: int, kept: torch.Tensor | None
) -> list[int]:
    hidden, ids = target.features(text[None, : known - 1]), text[None, 1:known]
    found: list[int] = []
    for _ in range(gamma):
        made = target.predict(hidden, ids)[:, -1:]
        logits = target.head(made)[0, 0]
        if kept is not None:
            logits = torch.full_like(logits, -torch.inf).index_copy(0, kept, logits[kept])
        found.append(int(logits.argmax()))
        hidden = torch.cat([hidden, made], dim=1)
        ids = torch.cat([ids, torch.tensor([[found[-1]]])], dim=1)
    return found


def test_a_draft_that_is_the_text_is_accepted_to_the_end(target: Target) -> None:
    text = target.greedy(torch.tensor([[5, 9, 2]]), 16)[0]
    wanted = iter(text[4:].tolist())

    target.head = lambda hidden: torch.eye(64)[next(wanted)]  # type: ignore[method-assign]
    assert target.accepted(text, 3, 2, 3, None) == [3]


def test_counts_by_position() -> None:
    assert by_position([0, 3, 1, 1], 3) == [3, 1, 1]
    assert by_position([], 2) == [0, 0]
