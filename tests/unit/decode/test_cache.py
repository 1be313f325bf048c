"""The cache against plain lists of tokens: what was written, in its place and nowhere else."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import RaggedCache

ROWS, COLUMNS = 3, 24
HEADS, SIZE = 2, 4

Texts = list[list[float]]


def states(counts: list[int], start: float) -> tuple[torch.Tensor, list[list[float]]]:
    """Return [B, heads, T, size] numbers padded in front with NaN, and those of each row."""
    width, tokens = max(counts), []
    batch = torch.full((len(counts), HEADS, width, SIZE), math.nan)
    for row, count in enumerate(counts):
        tokens.append([start + index for index in range(count)])
        start += count
        if count:
            batch[row, :, width - count :] = torch.tensor(tokens[-1])[:, None]
    return batch, tokens


def write(cache: RaggedCache, texts: Texts, counts: list[int], start: float) -> torch.Tensor:
    """Pass new numbers to the last rows; return the keys that the pass sees."""
    first = len(texts) - len(counts)
    cache.place(counts, first=first)
    batch, tokens = states(counts, start)
    keys, values = cache.update(batch, -batch, 0)
    assert torch.equal(keys.nan_to_num(), -values.nan_to_num())
    cache.advance()
    for row, new in enumerate(tokens, first):
        texts[row].extend(new)
    return keys


def require(cache: RaggedCache, texts: Texts) -> None:
    assert cache.lengths == tuple(map(len, texts))
    for row, text in enumerate(texts):
        keys, values = cache.layer(0, row)
        expected = torch.tensor(text)[None, :, None].expand(HEADS, -1, SIZE)
        assert torch.equal(keys, expected)
        assert torch.equal(values, -expected)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_text_keeps_what_was_written_to_it(data: st.DataObject) -> None:
    cache, texts, start = RaggedCache(ROWS, COLUMNS), [], 1.0
    for _ in range(data.draw(st.integers(1, 8))):
        opened = data.draw(st.integers(0 if texts else 1, ROWS - len(texts)))
        cache.open(opened)
        texts.extend([] for _ in range(opened))
        # new rows are passed alone first, as prompts are
        for rows in (opened, len(texts)):
            room = COLUMNS - max(map(len, texts))
            if rows and room:
                least = 1 if rows == opened else 0
                counts = data.draw(
                    st.lists(st.integers(least, min(4, room)), min_size=rows, max_size=rows)
                )
                if any(counts):
                    keys = write(cache, texts, counts, start)
                    start += sum(counts)
                    assert keys.shape == (rows, HEADS, max(map(len, texts[-rows:])), SIZE)
        require(cache, texts)
        gone = [data.draw(st.integers(0, len(text))) for text in texts]
        cache.crop(gone)
        texts = [text[: len(text) - count] for text, count in zip(texts, gone, strict=True)]
        kept = data.draw(st.permutations(range(len(texts))))[: data.draw(st.integers(0, ROWS))]
        cache.keep(kept)
        texts = [texts[row] for row in kept]
        if texts:
            require(cache, texts)


def test_positions_are_columns_and_the_last_token_is_last() -> None:
    cache = RaggedCache(3, 20)
    cache.open(3)
    texts: Texts = [[], [], []]
    write(cache, texts, [2, 5, 3], 1.0)
    place = cache.place([1, 3, 0])
    assert not place.even
    assert (place.width, place.end, place.rows) == (3, 8, slice(0, 3))
    assert place.positions.tolist() == [[0, 0, 2], [5, 6, 7], [0, 0, 0]]
    assert place.columns.tolist() == [[20, 20, 2], [5, 6, 7], [20, 20, 20]]
    even = cache.place([2], first=1)
    assert even.even
    assert even.positions.tolist() == even.columns.tolist() == [[5, 6]]
    assert (cache.get_seq_length(), cache.get_query_offset()) == (5, 5)
    assert cache.get_mask_sizes(2) == (7, 0)


def test_padding_is_written_where_nobody_looks() -> None:
    cache = RaggedCache(2, 6)
    cache.open(2)
    texts: Texts = [[], []]
    # one row fills every column, the other's padding holds NaN
    keys = write(cache, texts, [6, 1], 1.0)
    assert not keys.isnan().any()
    require(cache, texts)


def test_a_new_text_finds_nothing_of_the_last_one() -> None:
    cache = RaggedCache(2, 4)
    cache.open(2)
    cache.place([4, 4])
    spoilt = torch.full((2, HEADS, 4, SIZE), math.inf)
    cache.update(spoilt, spoilt, 0)
    cache.advance()
    cache.keep([0])
    cache.open(1)
    assert cache.lengths == (4, 0)
    cache.crop([3, 0])
    cache.place([1, 2])
    batch, _ = states([1, 2], 1.0)
    keys, values = cache.update(batch, batch, 0)
    assert torch.isfinite(keys[1]).all()
    assert torch.isfinite(values[1]).all()


def test_buffers_stay_where_they_are() -> None:
    cache = RaggedCache(2, 8)
    places = set()
    for _ in range(3):
        cache.open(2)
        texts: Texts = [[], []]
        for counts in ([3, 1], [1, 1], [4, 2]):
            places.add(write(cache, texts, counts, 1.0).data_ptr())
        cache.keep([])
    assert len(places) == 1


def test_limits() -> None:
    cache = RaggedCache(1, 4)
    with pytest.raises(DecodeError, match="holds 1 texts and 2 were asked for"):
        cache.open(2)
    cache.open(1)
    with pytest.raises(DecodeError, match="holds 4 tokens and 5 were asked for"):
        cache.place([5])
    write(cache, [[]], [4], 1.0)
    with pytest.raises(DecodeError, match="cache of 4 tokens cannot be cropped by 5"):
        cache.crop([5])
    with pytest.raises(DecodeError, match="cropped by -1"):
        cache.crop([-1])
    with pytest.raises(DecodeError, match="holds 1 texts and 2 were asked for"):
        cache.open(1)
