"""The cache is compared with a fresh pass: logits after a crop are those without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import KINDS, WINDOW, random_ids, tiny_model
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import ColumnCache

IDS = random_ids(60, seed=5)
MODELS = {kind: tiny_model(kind) for kind in KINDS}


@torch.inference_mode()
def passed(model: Any, ids: Sequence[int], cache: ColumnCache) -> torch.Tensor:
    logits: torch.Tensor = model(
        torch.tensor([list(ids)]), past_key_values=cache, use_cache=True
    ).logits[0]
    cache.advance(len(ids))
    return logits


@torch.inference_mode()
def fresh(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Logits of one pass without any cache."""
    logits: torch.Tensor = model(torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=12)
@given(
    steps=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=6),
    prompt=st.integers(1, 3 * WINDOW),
)
def test_passes_and_crops_leave_no_trace(
    kind: str, steps: list[tuple[int, int]], prompt: int
) -> None:
    model, cache = MODELS[kind], ColumnCache(1, 200)
    text = IDS[:prompt]
    passed(model, text, cache)
    for number, (drafted, rejected) in enumerate(steps):
        draft = random_ids(drafted, seed=number)
        logits = passed(model, draft, cache)
        text = text + draft
        torch.testing.assert_close(logits, fresh(model, text)[-drafted:], rtol=1e-4, atol=1e-4)
        cache.crop(min(rejected, drafted))
        text = text[: len(text) - min(rejected, drafted)]
        assert len(cache) == len(text)
    again = ColumnCache(1, 200)
    passed(model, text, again)
    for layer in range(2):
        for ours, theirs in zip(cache.layer(layer), again.layer(layer), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_crop_beyond_the_window_brings_the_past_back() -> None:
    # a sliding cache that dropped what left its window would fail here, and nowhere else
    model, cache = MODELS["gemma3"], ColumnCache(1, 60)
    passed(model, IDS[:40], cache)
    cache.crop(3 * WINDOW)
    kept = 40 - 3 * WINDOW
    logits = passed(model, IDS[50:53], cache)
    expected = fresh(model, IDS[:kept] + IDS[50:53])[-3:]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_window_is_really_in_force() -> None:
    model = tiny_model("mistral", num_hidden_layers=1)
    one, other = IDS[:30], [IDS[0] + 1, *IDS[1:30]]
    caches = ColumnCache(1, 30), ColumnCache(1, 30)
    last = [passed(model, ids, cache)[-1] for ids, cache in zip((one, other), caches, strict=True)]
    torch.testing.assert_close(*last)
    near = [passed(model, ids[:WINDOW], ColumnCache(1, 30))[-1] for ids in (one, other)]
    assert not torch.allclose(*near)


def test_blocks_shift_and_moves_keep_each_row() -> None:
    model = MODELS["llama"]
    whole = ColumnCache(3, 40)
    whole.start = whole.stop = 20
    alone = []
    for row in range(3):
        ids = IDS[10 * row : 10 * row + 12]
        passed(model, ids, whole.block(row, 1, start=8))
        single = ColumnCache(1, 12)
        passed(model, ids, single)
        alone.append(single.layer(1)[0][0])
    whole.narrow(3, 12)
    whole.shift(8)
    assert (whole.start, whole.stop) == (0, 12)
    keys = whole.layer(1)[0]
    torch.testing.assert_close(keys, torch.stack(alone))
    whole.move_row(2, 0, 12)
    torch.testing.assert_close(whole.layer(1)[0][0], alone[2])
    whole.narrow(2, 5)
    assert whole.layer(1)[0].shape[:3] == (2, 2, 5)


def test_limits() -> None:
    cache = ColumnCache(1, 4)
    with pytest.raises(DecodeError, match="holds 4 tokens and 5 were asked for"):
        passed(MODELS["llama"], IDS[:5], cache)
    passed(MODELS["llama"], IDS[:4], cache)
    with pytest.raises(DecodeError, match="cache of 4 tokens cannot be cropped by 5"):
        cache.crop(5)
    with pytest.raises(DecodeError, match="cropped by -1"):
        cache.crop(-1)
