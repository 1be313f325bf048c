"""Passes through the cache are compared with a fresh pass: nothing shows that it is there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import KINDS, WINDOW, H, random_ids, tiny_model
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.reader import Reader, padded

IDS = random_ids(200, seed=5)
MODELS = {kind: tiny_model(kind) for kind in KINDS}
CPU = torch.device("cpu")


@torch.no_grad()
def fresh(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of one pass without any cache."""
    logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    return logits


def read(reader: Reader, new: list[list[int]], *, first: int = 0) -> list[torch.Tensor]:
    """Read new ids of some rows; return the logits of each."""
    counts = [len(ids) for ids in new]
    logits = reader.read(padded(new, CPU), counts, first=first).logits
    return [row[len(row) - count :] for row, count in zip(logits, counts, strict=True)]


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=12)
@given(
    prompts=st.lists(st.integers(1, 3 * WINDOW), min_size=1, max_size=4),
    data=st.data(),
)
def test_passes_and_crops_of_texts_of_any_length_leave_no_trace(
    kind: str, prompts: list[int], data: st.DataObject
) -> None:
    model, reader = MODELS[kind], Reader(MODELS[kind])
    reader.begin(200, len(prompts))
    texts = [IDS[row : row + length] for row, length in enumerate(prompts)]
    for logits, text in zip(read(reader, texts), texts, strict=True):
        close(logits, fresh(model, text))
    for step in range(data.draw(st.integers(1, 4))):
        counts = [data.draw(st.integers(0 if row else 1, 5)) for row in range(len(texts))]
        new = [random_ids(count, seed=7 * step + row) for row, count in enumerate(counts)]
        found = read(reader, new)
        gone = [data.draw(st.integers(0, count)) for count in counts]
        for row, count in enumerate(counts):
            texts[row] = texts[row] + new[row]
            if count:
                close(found[row], fresh(model, texts[row])[-count:])
            texts[row] = texts[row][: len(texts[row]) - gone[row]]
        reader.cache.crop(gone)
        assert reader.cache.lengths == tuple(map(len, texts))
    for row, text in enumerate(texts):
        again = Reader(model)
        again.begin(200)
        if text:
            read(again, [text])
            for layer in range(2):
                for ours, theirs in zip(
                    reader.cache.layer(layer, row), again.cache.layer(layer), strict=True
                ):
                    close(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_and_go(kind: str) -> None:
    model, reader = MODELS[kind], Reader(MODELS[kind])
    reader.begin(60, 3)
    texts = [IDS[:20], IDS[30:33], IDS[40:52]]
    read(reader, texts)
    reader.cache.keep([1, 2])
    texts = texts[1:]
    reader.cache.open(1)
    # the new row is read alone, then all of them together
    texts.append(IDS[60:69])
    close(read(reader, texts[2:], first=2)[0], fresh(model, texts[2]))
    new = [[5], [6, 7], [8]]
    for logits, text, added in zip(read(reader, new), texts, new, strict=True):
        close(logits, fresh(model, text + added)[-len(added) :])


def test_a_crop_beyond_the_window_brings_the_past_back() -> None:
    # a sliding cache that dropped what left its window would fail here, and nowhere else
    model, reader = MODELS["gemma3"], Reader(MODELS["gemma3"])
    reader.begin(60, 2)
    texts = [IDS[:40], IDS[50:85]]
    read(reader, texts)
    reader.cache.crop([3 * WINDOW, 2 * WINDOW])
    kept = [texts[0][: 40 - 3 * WINDOW], texts[1][: 35 - 2 * WINDOW]]
    new = [IDS[90:93], IDS[95:98]]
    for logits, text, added in zip(read(reader, new), kept, new, strict=True):
        close(logits, fresh(model, text + added)[-3:])


@pytest.mark.parametrize("lengths", [(30,), (30, 27)])
def test_the_window_is_really_in_force(lengths: tuple[int, ...]) -> None:
    # with one layer, what lies further back than the window changes nothing
    model = tiny_model("mistral", num_hidden_layers=1)
    found = []
    for begin in (3, 4):
        reader = Reader(model)
        reader.begin(40, len(lengths))
        texts = [[begin, *IDS[1:length]] for length in lengths]
        found.append([logits[-1] for logits in read(reader, texts)])
        # the last column that sees the first token, and the first that does not
        close(read(reader, [[9]] * len(lengths))[0][-1], fresh(model, [*texts[0], 9])[-1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    near = [fresh(model, [begin, *IDS[1:WINDOW]])[-1] for begin in (3, 4)]
    assert not torch.allclose(*near)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_eager_attention_reads_the_same(kind: str) -> None:
    model = tiny_model(kind)
    expected = [fresh(model, text) for text in (IDS[:20], IDS[30:33])]
    model.set_attn_implementation("eager")
    reader = Reader(model)
    reader.begin(30, 2)
    for ours, theirs in zip(read(reader, [IDS[:20], IDS[30:33]]), expected, strict=True):
        close(ours, theirs)


def test_attention_without_free_masks_reads_one_text_at_a_time() -> None:
    model = tiny_model()
    reader = Reader(model)
    reader.begin(30, 2)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(DecodeError, match="attends by flash_attention_2, which reads texts of"):
        read(reader, [IDS[:2], IDS[:3]])


def test_float64_stays_float64_with_masks_of_both_forms() -> None:
    for kind in ("sdpa", "eager"):
        model = tiny_model().double()
        model.set_attn_implementation(kind)
        reader = Reader(model)
        reader.begin(30, 2)
        logits = read(reader, [IDS[:2], IDS[:3]])
        assert logits[0].dtype == torch.float64
        torch.testing.assert_close(logits[0], fresh(model, IDS[:2]), rtol=0, atol=1e-6)


def test_large_enough_buffers_are_used_again() -> None:
    reader = Reader(MODELS["llama"])
    reader.begin(40, 2)
    first = reader.cache
    read(reader, [IDS[:3], IDS[:7]])
    for columns, rows in ((40, 1), (10, 2), (1, 1)):
        reader.begin(columns, rows)
        assert reader.cache is first
        assert first.lengths == (0,) * rows
    for columns, rows in ((41, 2), (40, 3)):
        reader.begin(40, 2)
        reader.begin(columns, rows)
        assert reader.cache is not first
        first = reader.cache


def test_what_is_read_again_is_what_a_new_reader_reads() -> None:
    model, reader = MODELS["mistral"], Reader(MODELS["mistral"])
    reader.begin(40, 2)
    read(reader, [IDS[:30], IDS[40:77]])
    reader.begin(40, 2)
    texts = [IDS[5:8], IDS[90:103]]
    for logits, text in zip(read(reader, texts), texts, strict=True):
        close(logits, fresh(model, text))


def test_no_gradient_is_kept() -> None:
    reader = Reader(MODELS["llama"])
    reader.begin(3)
    assert not read(reader, [IDS[:3]])[0].requires_grad


def test_options_reach_the_module() -> None:
    reader = Reader(MODELS["llama"].model)
    reader.begin(5)
    outcome = reader.read(padded([IDS[:5]], CPU), [5], output_hidden_states=True)
    assert outcome.last_hidden_state.shape == (1, 5, H)
    assert len(outcome.hidden_states) == 3


def test_padding_stands_in_front() -> None:
    assert padded([[5], [6, 7, 8], []], CPU).tolist() == [[0, 0, 5], [6, 7, 8], [0, 0, 0]]


def test_a_model_that_cannot_be_cropped_is_refused_by_the_type_of_its_layer() -> None:
    model = tiny_model()
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(DecodeError, match="layer 1 is of type linear_attention"):
        Reader(model)
