"""Comparing encoders: what is compared, how much of it, and what a difference says."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from vocabtrim.core.errors import BackendMismatch
from vocabtrim.tokens import agreement
from vocabtrim.tokens.agreement import ComparedEncoder
from vocabtrim.tokens.encoders import Flat

V = 0x3000


class Characters:
    """An encoder whose ids are the characters, and which remembers what it was asked."""

    def __init__(self, change: Callable[[str], str] = str) -> None:
        self._change = change
        self.asked: list[str] = []

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        self.asked += texts
        changed = [self._change(text) for text in texts]
        ids: NDArray[np.int64] = np.array([ord(one) for one in "".join(changed)], dtype=np.int64)
        return ids, np.array(list(map(len, changed)), dtype=np.int64)


def compared(change: Callable[[str], str] = str) -> tuple[ComparedEncoder, Characters]:
    reference = Characters()
    return ComparedEncoder(Characters(change), reference, V, name="fast 1.0"), reference


def test_ids_are_the_fast_ones_and_the_first_texts_are_compared() -> None:
    encoder, reference = compared()
    ids, lengths = encoder.encode_flat(["abc", "", "d"])
    assert ids.tolist() == [97, 98, 99, 100]
    assert lengths.tolist() == [3, 0, 1]
    assert sorted(reference.asked) == ["", "abc", "d"]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing_is_compared_of_nothing(texts: list[str]) -> None:
    encoder, reference = compared()
    ids, lengths = encoder.encode_flat(texts)
    assert (ids.size, lengths.tolist()) == (0, [0] * len(texts))
    assert reference.asked == []


def test_a_difference_names_a_short_text_and_both_lists_of_ids() -> None:
    encoder, _ = compared(lambda text: text.replace("é", "e"))
    with pytest.raises(BackendMismatch) as caught:
        encoder.encode_flat(["x" * 5000 + "café" + "y" * 7000])
    fault = caught.value
    assert "é" in fault.text
    assert len(fault.text) <= agreement.SHORT_CHARACTERS
    assert fault.found == tuple(map(ord, fault.text.replace("é", "e")))
    assert fault.expected == tuple(map(ord, fault.text))
    sentence = str(fault)
    assert sentence.startswith(f"fast 1.0 encodes {fault.text!r} as [")
    assert f"{ord('é')}" in sentence
    assert "so fast 1.0 is not used" in sentence
    again = pickle.loads(pickle.dumps(fault))
    assert (str(again), again.found, again.expected) == (sentence, fault.found, fault.expected)


def test_a_difference_in_length_is_one() -> None:
    encoder, _ = compared(lambda text: text.removesuffix("\n"))
    encoder.encode_flat(["a", "b c"])
    with pytest.raises(BackendMismatch, match=r"encodes 'a\\n' as \[97\] and .* as \[97, 10\]"):
        encoder.encode_flat(["a\n"])


def test_no_ids_at_all_is_a_difference() -> None:
    encoder, _ = compared(lambda text: "")
    with pytest.raises(BackendMismatch, match=r"encodes 'a' as \[\] and"):
        encoder.encode_flat(["", "a"])


def test_a_difference_that_no_part_shows_is_reported_in_whole() -> None:
    encoder, _ = compared(lambda text: text if len(text) < 1000 else text[1:])
    with pytest.raises(BackendMismatch) as caught:
        encoder.encode_flat(["z" * 1100])
    assert len(caught.value.text) == 1100
    assert len(str(caught.value)) < 500


def test_only_a_share_of_later_texts_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "FIRST_CHARACTERS", 300)
    monkeypatch.setattr(agreement, "SHARE", 1 / 100)
    encoder, reference = compared()
    for _ in range(200):
        encoder.encode_flat(["a" * 100] * 10)
    done = sum(map(len, reference.asked))
    assert 300 + 2000 <= done <= 300 + 2000 + 100
    assert sum(map(len, reference.asked[:3])) == 300


def test_texts_with_ids_never_compared_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "FIRST_CHARACTERS", 12)
    monkeypatch.setattr(agreement, "SHARE", 1 / 8)
    encoder, reference = compared(lambda text: text.replace("é", "e"))
    encoder.encode_flat(["abc", "bca", "cab", "abcabc"])
    assert reference.asked[0] == "abcabc"
    with pytest.raises(BackendMismatch):
        # many more texts than may be compared, and one with something new
        encoder.encode_flat([*["abc"] * 90, "abé", *["abc"] * 90])


def test_of_a_long_text_the_part_with_something_new_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agreement, "FIRST_CHARACTERS", 100)
    monkeypatch.setattr(agreement, "EXCERPT_CHARACTERS", 100)
    monkeypatch.setattr(agreement, "SHARE", 1 / 500)
    for text in ("é" + "a" * 99_999, "a" * 99_999 + "é", "a" * 70_000 + "é" + "a" * 30_000):
        encoder, reference = compared(lambda text: text.replace("é", "e"))
        encoder.encode_flat(["a" * 100_000])
        assert set(reference.asked) == {"a" * 100}
        with pytest.raises(BackendMismatch):
            encoder.encode_flat([text])


def test_an_id_beyond_the_vocabulary_is_a_difference() -> None:
    encoder, _ = compared(lambda text: text.replace("a", chr(V + 7)))
    with pytest.raises(BackendMismatch, match=str(V + 7)):
        encoder.encode_flat(["banana"])
