"""Tables: the ids of what was asked, in order, whatever collides, repeats or is long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.tokens import id_tables
from vocabtrim.tokens.id_tables import PADDING, Flat, PieceTable, WordTable

PIECES = [
    *("a", "", "ab", "a\0", "\0", "\0\0", "a" * 15, "a" * 16, "b" * 40, "é漢🙂", "x" * 8, "x" * 9),
    # they differ in the last byte of one half of a key, and beyond the other
    *("x" * 7 + "a", "x" * 7 + "b", "x" * 15 + "a", "x" * 15 + "q", "x" * 14 + "a", "x" * 14 + "q"),
]


class Spelling:
    """Ids are the characters of a string; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Flat:
        self.asked += texts
        ids = np.array([ord(one) for one in "".join(texts)], dtype=np.int64)
        return ids, np.array(list(map(len, texts)), dtype=np.int64)


def looked_up(table: PieceTable, pieces: Sequence[str]) -> Flat:
    """Look up pieces that lie end to end; no piece is empty."""
    encoded = [piece.encode() for piece in pieces]
    size = sum(map(len, encoded))
    starts = np.cumsum([0, *map(len, encoded)])[:-1].astype(np.int64)
    return table.encode_flat(b"".join(encoded) + bytes(PADDING + -size % 8), starts, size)


def assert_spelled(flat: Flat, texts: Sequence[str]) -> None:
    ids, lengths = flat
    assert ids.tolist() == [ord(one) for one in "".join(texts)]
    assert lengths.tolist() == list(map(len, texts))


def test_words_are_asked_for_once_and_in_order() -> None:
    spelling = Spelling()
    table = WordTable(spelling)
    for words in (PIECES, [], PIECES[::-1] * 2, ["new", "a", "new"]):
        assert_spelled(table.encode_flat(words), words)
    assert spelling.asked == [*PIECES, "new"]


def test_pieces_are_asked_for_once() -> None:
    spelling = Spelling()
    table = PieceTable(spelling)
    pieces = [piece for piece in PIECES if piece]
    for some in (pieces, pieces[::-1] * 3, ["new", "a", "new", *pieces], ["a"]):
        assert_spelled(looked_up(table, some), some)
    assert sorted(spelling.asked) == sorted([*pieces, "new"])


@settings(deadline=None)
@given(st.lists(st.lists(st.text("ab\0é🙂", min_size=1, max_size=18), max_size=40), max_size=5))
def test_any_pieces_in_any_runs(runs: list[list[str]]) -> None:
    table, words = PieceTable(Spelling()), WordTable(Spelling())
    for pieces in runs:
        assert_spelled(looked_up(table, pieces), pieces)
        assert_spelled(words.encode_flat(pieces), pieces)


def test_keys_that_want_one_slot_get_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_slot(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.full(low.size, (1 << id_tables._SLOT_BITS) - 1, dtype=np.int64)

    monkeypatch.setattr(id_tables, "_home", last_slot)
    spelling = Spelling()
    table = PieceTable(spelling)
    pieces = [f"{one}" for one in range(100)] * 2 + [f"the same {one}" for one in range(200)]
    for some in (pieces, pieces[::-1], [*pieces, "more"]):
        assert_spelled(looked_up(table, some), some)
    assert len(spelling.asked) == 301


def test_a_full_table_is_cleared_and_never_fills_up() -> None:
    spelling = Spelling()
    table = PieceTable(spelling)
    most = 0
    for start in range(0, 540_000, 60_000):
        pieces = [f"{one:06}" for one in range(start, start + 60_000)]
        assert_spelled(looked_up(table, pieces), pieces)
        most = max(most, table._numbered)
    assert id_tables.ENTRIES < most < 1 << id_tables._SLOT_BITS
    assert table._numbered < most
    # as many different pieces as one run can hold
    distinct = 256 + (1 << 16) + (id_tables.PIECE_BYTES - 256 - (2 << 16)) // 3
    assert id_tables.ENTRIES + distinct < 1 << id_tables._SLOT_BITS


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_what_was_interrupted_is_asked_for_again(kind: str) -> None:
    spelling = Spelling()
    fails = True

    def encode(texts: Sequence[str]) -> Flat:
        if fails:
            raise KeyboardInterrupt
        return spelling(texts)

    words, pieces = WordTable(encode), PieceTable(encode)

    def ask() -> Flat:
        return words.encode_flat(["a", "b"]) if kind == "words" else looked_up(pieces, ["a", "b"])

    with pytest.raises(KeyboardInterrupt):
        ask()
    fails = False
    assert_spelled(ask(), ["a", "b"])


def test_many_characters_clear_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_tables, "CHARACTERS", 30)
    for table in (WordTable(spelling := Spelling()), PieceTable(spelling)):
        spelling.asked.clear()
        for _ in range(3):
            texts = ["one" * 12, "two"]
            flat = (
                table.encode_flat(texts)
                if isinstance(table, WordTable)
                else looked_up(table, texts)
            )
            assert_spelled(flat, texts)
        assert spelling.asked.count("two") == 3
