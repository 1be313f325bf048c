"""A key-value cache written in place, cropped by moving one number.

`transformers` grows its dynamic cache by concatenation (two thirds of the time
of a batched step on a CPU), and its sliding layers forget what left the window,
so that removing rejected drafts loses history. Here every layer is one buffer
[rows, heads, columns, head dimension], tokens go to the next column, and a
window [start, stop) says which columns are alive: cropping by any number of
tokens is exact for full and for sliding layers, because the past is still
there and the attention mask, not the cache, does the windowing.

The class is what a `transformers` model expects of `past_key_values`, by
behaviour and not by inheritance: `update`, `get_seq_length`,
`get_query_offset`, `get_mask_sizes`, `is_sliding`.
"""

from __future__ import annotations

from typing import Any

import torch

from vocabtrim.core.errors import DecodeError


class ColumnCache:
    """Keys and values of some rows over some columns.

    Args:
        rows: Texts held side by side.
        columns: Tokens that fit.
    """

    is_sliding = (False,)
    """All layers are full length, which is how masks are made for them."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.start, self.stop = 0, 0
        self._first, self._end = 0, rows
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def block(self, first: int, count: int, *, start: int) -> ColumnCache:
        """Return an empty cache in the same buffers: some rows, from a column on.

        Prompts that are passed through it lie where their rows need them.
        """
        view = ColumnCache(self.rows, self.columns)
        view.start = view.stop = start
        view._first, view._end = first, first + count
        view._layers = self._layers
        return view

    def narrow(self, rows: int, length: int) -> None:
        """Let only the first `rows` rows and the last `length` columns take part."""
        self._end = rows
        self.start = self.stop - length

    def __len__(self) -> int:
        return self.stop - self.start

    def advance(self, tokens: int) -> None:
        """Keep the tokens that the last pass wrote."""
        self.stop += tokens

    def crop(self, tokens: int) -> None:
        """Forget the last `tokens` tokens.

        Raises:
            DecodeError: There are fewer.
        """
        if not 0 <= tokens <= len(self):
            raise DecodeError(f"a cache of {len(self)} tokens cannot be cropped by {tokens}")
        self.stop -= tokens

    @torch.inference_mode()
    def shift(self, columns: int) -> None:
        """Move all live columns towards 0, to make room behind them."""
        for keys, values in self._layers.values():
            for buffer in (keys, values):
                live = buffer[:, :, self.start : self.stop].clone()
                buffer[:, :, self.start - columns : self.stop - columns] = live
        self.start -= columns
        self.stop -= columns

    @torch.inference_mode()
    def move_row(self, source: int, destination: int, length: int) -> None:
        """Copy the last `length` columns of one row over another's."""
        alive = slice(self.stop - length, self.stop)
        for keys, values in self._layers.values():
            for buffer in (keys, values):
                buffer[destination, :, alive] = buffer[source, :, alive]

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the live keys and values of a layer.

        Returns:
            Two [rows, heads, length, head dimension] views.
        """
        keys, values = self._layers[index]
        alive = (slice(self._first, self._end), slice(None), slice(self.start, self.stop))
        return keys[alive], values[alive]

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new tokens behind the live columns; called by attention layers.

        Args:
            key_states: [rows, heads, T, head dimension].
            value_states: The same for values.
            layer_idx: Which layer.

        Returns:
            Views of all keys and values, the new ones last.

        Raises:
            DecodeError: The columns are used up.
        """
        if layer_idx not in self._layers:
            self._layers[layer_idx] = (self._buffer(key_states), self._buffer(value_states))
        end = self.stop + key_states.shape[2]
        if end > self.columns:
            raise DecodeError(f"the cache holds {self.columns} tokens and {end} were asked for")
        rows = slice(self._first, self._end)
        keys, values = self._layers[layer_idx]
        keys[rows, :, self.stop : end] = key_states
        values[rows, :, self.stop : end] = value_states
        return keys[rows, :, self.start : end], values[rows, :, self.start : end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of live tokens."""
        return len(self)

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the position, in this cache, of the next token."""
        return len(self)

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Return (keys that a pass of `query_length` tokens sees, offset 0)."""
        return len(self) + query_length, 0

    def _buffer(self, states: torch.Tensor) -> torch.Tensor:
        # zeros, not empty: a masked column still meets a weight of 0, and 0 * NaN is NaN
        return torch.zeros(
            (self.rows, states.shape[1], self.columns, states.shape[3]),
            dtype=states.dtype,
            device=states.device,
        )
