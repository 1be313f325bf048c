"""A key-value cache of texts of different lengths, cropped by moving a number.

`transformers` grows its dynamic cache by concatenation, and its sliding layers
forget what left the window, so that removing rejected drafts loses history.
Here every layer is one buffer [rows, heads, columns, head dimension], allocated
once. A text is a row and a token's column is its position: each row ends where
its own text ends, so rows may keep different numbers of drafts, and cropping is
exact for full and for sliding layers alike. What a crop leaves behind is
invisible, because a query sees no column beyond its own, and is overwritten
before one gets there.

A pass is announced by `place`, written by the attention layers through `update`
and made part of the texts by `advance`. The class is what a `transformers`
model expects of `past_key_values`, by behaviour and not by inheritance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vocabtrim.core.errors import DecodeError


@dataclass(frozen=True, eq=False)
class Place:
    """Where the tokens of one pass go.

    A row with fewer tokens than others is padded in front, so that the last
    token of every row is the last of the pass.

    Args:
        first: The first row that takes part.
        counts: [B] tokens of each row.
        positions: [B, T] int64, where each token stands in its text; 0 for padding.
        columns: [B, T] int64, where it is written.
        end: Columns that the pass sees.
        even: Whether all rows write to the same columns, and none is padded.
    """

    first: int
    counts: tuple[int, ...]
    positions: torch.Tensor
    columns: torch.Tensor
    end: int
    even: bool

    @property
    def width(self) -> int:
        """T, tokens of a row, padding included."""
        return self.positions.shape[1]

    @property
    def rows(self) -> slice:
        """Rows that take part."""
        return slice(self.first, self.first + len(self.counts))


class RaggedCache:
    """Keys and values of some texts.

    Args:
        rows: Texts that fit.
        columns: Tokens of a text that fit.
        device: Where the numbers are kept.
    """

    is_sliding = (False,)
    """All layers are full length, which is how masks are made for them."""

    def __init__(self, rows: int, columns: int, device: torch.device | str = "cpu") -> None:
        self.rows, self.columns, self.device = rows, columns, torch.device(device)
        self._lengths: list[int] = []
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        nowhere = torch.zeros(0, 0, dtype=torch.int64)
        self._place = Place(0, (), nowhere, nowhere, 0, even=True)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each text."""
        return tuple(self._lengths)

    @torch.inference_mode()
    def open(self, rows: int) -> None:
        """Begin empty texts behind the others.

        Raises:
            DecodeError: There is no room for them.
        """
        begin, end = len(self._lengths), len(self._lengths) + rows
        if end > self.rows:
            raise DecodeError(f"the cache holds {self.rows} texts and {end} were asked for")
        for layer in self._layers.values():
            for buffer in layer:
                # a masked column still meets a weight of 0, and 0 * NaN is NaN: a text that
                # overflowed must not spoil the next one of its row
                buffer[begin:end] = 0
        self._lengths.extend([0] * rows)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Let only these texts go on, in this order; texts that keep their row cost nothing."""
        moved = [(to, row) for to, row in enumerate(rows) if to != row]
        if moved:
            to, source = (list(one) for one in zip(*moved, strict=True))
            alive = slice(max(self._lengths[row] for row in source))
            for layer in self._layers.values():
                for buffer in layer:
                    buffer[to, :, alive] = buffer[source, :, alive]
        self._lengths = [self._lengths[row] for row in rows]

    def crop(self, tokens: Sequence[int]) -> None:
        """Forget the last tokens of each text.

        Args:
            tokens: [rows] how many of each.

        Raises:
            DecodeError: There are fewer.
        """
        for length, count in zip(self._lengths, tokens, strict=True):
            if not 0 <= count <= length:
                raise DecodeError(f"a cache of {length} tokens cannot be cropped by {count}")
        self._lengths = [have - gone for have, gone in zip(self._lengths, tokens, strict=True)]

    def place(self, counts: Sequence[int], *, first: int = 0) -> Place:
        """Announce a pass.

        Args:
            counts: [B] new tokens of each of the rows from `first` on; 0 leaves a
                row as it is.
            first: The first row that takes part.

        Raises:
            DecodeError: The columns are used up, or a text was not opened.
        """
        begins = self._lengths[first : first + len(counts)]
        if not begins or len(begins) < len(counts):
            raise DecodeError(f"{len(counts)} texts are to be read and {len(begins)} were begun")
        width, end = max(counts), max(map(sum, zip(begins, counts, strict=True)))
        if end > self.columns:
            raise DecodeError(f"the cache holds {self.columns} tokens and {end} were asked for")
        even = len(set(begins)) == len(set(counts)) == 1
        if even:
            line = torch.arange(begins[0], end, device=self.device)
            positions = columns = line.expand(len(counts), width)
        else:
            past = torch.tensor(begins, device=self.device)[:, None]
            pad = width - torch.tensor(counts, device=self.device)[:, None]
            index = torch.arange(width, device=self.device)
            # padding looks at its row's first column, for attending to nothing is NaN, and
            # is written to the spare column behind all others, which no query sees
            positions = (past + index - pad).masked_fill(index < pad, 0)
            columns = positions.masked_fill(index < pad, self.columns)
        self._place = Place(first, tuple(counts), positions, columns, end, even)
        return self._place

    def advance(self) -> None:
        """Make the tokens of the last pass part of their texts."""
        for row, count in enumerate(self._place.counts, self._place.first):
            self._lengths[row] += count

    def layer(self, index: int, row: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of one text in a layer, [heads, length, head dimension] each."""
        keys, values = self._layers[index]
        return keys[row, :, : self._lengths[row]], values[row, :, : self._lengths[row]]

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the tokens of a pass; called by attention layers.

        Args:
            key_states: [B, heads, T, head dimension].
            value_states: The same for values.
            layer_idx: Which layer.

        Returns:
            Views [B, heads, end, head dimension] of all keys and values.
        """
        if layer_idx not in self._layers:
            self._layers[layer_idx] = (self._buffer(key_states), self._buffer(value_states))
        keys, values = self._layers[layer_idx]
        return self._write(keys, key_states), self._write(values, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens before an even pass."""
        return self._place.end - self._place.width

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the position of the first token of an even pass."""
        return self._place.end - self._place.width

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Return (keys that the pass sees, offset 0)."""
        return self._place.end, 0

    def _write(self, buffer: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        place = self._place
        rows = buffer[place.rows]
        if place.even:
            rows[:, :, place.end - place.width : place.end] = states
        else:
            which = torch.arange(rows.shape[0], device=rows.device)[:, None]
            rows[which, :, place.columns] = states.transpose(1, 2)
        return rows[:, :, : place.end]

    def _buffer(self, states: torch.Tensor) -> torch.Tensor:
        # zeros, not empty: memory that nobody wrote may hold NaN
        return torch.zeros(
            (self.rows, states.shape[1], self.columns + 1, states.shape[3]),
            dtype=states.dtype,
            device=states.device,
        )
