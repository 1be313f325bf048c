"""Ids of strings that have been met: a dict for words, arrays for pieces of text.

A piece of up to 15 bytes, and nearly all are, fits with its length into two
64-bit numbers: equal keys are equal pieces. Keys lie in arrays, at a slot that
follows from the key or soon behind it, and a whole run of text is looked up at
once, in rounds: each piece looks into its slot, takes it if it is vacant (of
several that would, one does), and where another key is in it goes on to the next.
Longer pieces go through a dict.

What is new is encoded by a function that a table is given. A table that holds
too much is cleared, which costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Flat = tuple[NDArray[Any], NDArray[np.int64]]
"""Ids of several texts one after the other, [T] integers, and how many each has, [n] int64."""

Encode = Callable[[Sequence[str]], Flat]

ENTRIES = 1 << 18
CHARACTERS = 1 << 23
PIECE_BYTES = 1 << 19
"""Most bytes of pieces that may be looked up at once."""
PADDING = 24
"""Zero bytes behind them."""

_SLOT_BITS = 19
_VACANT = -1
_SHORT = 15
_LOWEST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
_MIX, _MIX_AGAIN = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


class WordTable:
    """Ids of words.

    Args:
        encode: Encodes words that have not been met.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._clear()

    def encode_flat(self, words: Sequence[str]) -> Flat:
        """Return the ids of all words and the number of each."""
        full = len(self._codes) > ENTRIES or self._characters > CHARACTERS
        # the two differ where encoding the new ones was interrupted
        if full or len(self._codes) != len(self._ids):
            self._clear()
        codes = np.fromiter(map(self._codes.__getitem__, words), np.int64, len(words))
        if new := self._codes.take_new():
            self._ids.extend(*self._encode(new))
            self._characters += sum(map(len, new))
        return self._ids.gather(codes)

    def _clear(self) -> None:
        self._codes, self._ids, self._characters = _Codes(), _Lists(), 0


class PieceTable:
    """Ids of pieces of text.

    Args:
        encode: Encodes pieces that have not been met.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._clear()

    def encode_flat(self, data: bytes, starts: NDArray[np.int64], size: int) -> Flat:
        """Return the ids of all pieces and the number of each.

        Args:
            data: UTF-8, no more than `PIECE_BYTES` if more than one piece, and at
                least `PADDING` zero bytes; a multiple of 8 in all.
            starts: [n] int64 ascending, where the pieces begin, each up to the next.
            size: Where the last one ends.
        """
        full = self._numbered > ENTRIES or self._characters > CHARACTERS
        # the two differ where encoding the new ones was interrupted
        if full or self._numbered != len(self._ids):
            self._clear()
        lengths = np.diff(starts, append=size)
        short = np.flatnonzero(lengths <= _SHORT)
        codes = np.empty(starts.size, dtype=np.int64)
        codes[short], firsts = self._short_codes(*_keys(data, starts[short], lengths[short]))
        new = [
            data[start : start + length].decode()
            for start, length in zip(
                starts[short[firsts]].tolist(), lengths[short[firsts]].tolist(), strict=True
            )
        ]
        for place in np.flatnonzero(lengths > _SHORT).tolist():
            piece = data[starts[place] : starts[place] + lengths[place]]
            codes[place] = code = self._long.setdefault(piece, self._numbered)
            if code == self._numbered:
                self._numbered += 1
                new.append(piece.decode())
        if new:
            self._ids.extend(*self._encode(new))
            self._characters += sum(map(len, new))
        return self._ids.gather(codes)

    def _short_codes(
        self, low: NDArray[np.uint64], high: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the codes of keys, and where those stand that got a new one, in its order.

        There are always vacant slots: the table has `ENTRIES` and some, half of
        its slots, at the most, and `PIECE_BYTES` hold fewer different short pieces.
        """
        codes = np.empty(low.size, dtype=np.int64)
        slots = _home(low, high)
        waiting = np.arange(low.size)
        firsts = [waiting[:0]]
        while waiting.size:
            at = slots[waiting]
            claims = waiting[self._codes[at] == _VACANT]
            claimed = slots[claims]
            self._claims[claimed] = claims
            takers = claims[self._claims[claimed] == claims]
            taken = slots[takers]
            self._low[taken], self._high[taken] = low[takers], high[takers]
            self._codes[taken] = np.arange(self._numbered, self._numbered + takers.size)
            self._numbered += takers.size
            firsts.append(takers)
            found = (self._low[at] == low[waiting]) & (self._high[at] == high[waiting])
            codes[waiting[found]] = self._codes[at[found]]
            waiting = waiting[~found]
            slots[waiting] = (slots[waiting] + 1) & ((1 << _SLOT_BITS) - 1)
        return codes, np.concatenate(firsts)

    def _clear(self) -> None:
        slots = 1 << _SLOT_BITS
        self._low, self._high = np.zeros((2, slots), dtype=np.uint64)
        self._claims = np.zeros(slots, dtype=np.int64)
        self._codes = np.full(slots, _VACANT, dtype=np.int64)
        self._long: dict[bytes, int] = {}
        self._ids, self._numbered, self._characters = _Lists(), 0, 0


def _keys(
    data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the keys of short pieces, [n] uint64 twice.

    They are the bytes of a piece from the lowest on, zeros, and its length on top.
    """
    words = np.frombuffer(data, dtype="<u8")
    at, shift = starts >> 3, ((starts & 7) << 3).astype(np.uint64)
    one, back = np.uint64(1), np.uint64(63) - shift
    first, second, third = words[at], words[at + 1], words[at + 2]
    # in two steps, for a shift by 64 would be none
    low = first >> shift | second << one << back
    high = second >> shift | third << one << back
    low &= _LOWEST_BYTES[np.minimum(lengths, 8)]
    high &= _LOWEST_BYTES[np.maximum(lengths - 8, 0)]
    return low, high | lengths.astype(np.uint64) << np.uint64(56)


def _home(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the slot where looking for each key begins, [n] int64."""
    mixed = (low ^ high * _MIX) * _MIX_AGAIN
    mixed ^= mixed >> np.uint64(32)
    return (mixed * _MIX >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)


class _Codes(dict[str, int]):
    """Numbers strings in the order in which they are first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._new: list[str] = []

    def __missing__(self, key: str) -> int:
        self[key] = code = len(self)
        self._new.append(key)
        return code

    def take_new(self) -> list[str]:
        """Return the strings numbered since the last call, in order."""
        new, self._new = self._new, []
        return new


class _Lists:
    """Lists of ids, of which more and more are appended."""

    def __init__(self) -> None:
        self._ids, self._bounds = _Growing(), _Growing()
        self._bounds.extend(np.zeros(1, dtype=np.int64))

    def __len__(self) -> int:
        return self._bounds.size - 1

    def extend(self, ids: NDArray[Any], lengths: NDArray[np.int64]) -> None:
        """Append lists, given one after the other, [T], and their lengths, [n] int64."""
        self._bounds.extend(self._ids.size + np.cumsum(lengths))
        self._ids.extend(ids)

    def gather(self, places: NDArray[np.int64]) -> Flat:
        """Return the lists at some places one after the other, and their lengths."""
        bounds = self._bounds.values
        starts = bounds[places]
        lengths = bounds[places + 1] - starts
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if places.size else 0
        return self._ids.values[
            np.repeat(starts - ends + lengths, lengths) + np.arange(total)
        ], lengths


class _Growing:
    """An int64 vector to which values are appended."""

    def __init__(self) -> None:
        self._room = np.empty(1 << 12, dtype=np.int64)
        self.size = 0

    @property
    def values(self) -> NDArray[np.int64]:
        return self._room[: self.size]

    def extend(self, values: NDArray[Any]) -> None:
        needed = self.size + values.size
        if needed > self._room.size:
            room = np.empty(max(needed, 2 * self._room.size), dtype=np.int64)
            room[: self.size] = self.values
            self._room = room
        self._room[self.size : needed] = values
        self.size = needed
