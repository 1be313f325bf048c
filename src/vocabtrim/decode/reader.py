"""A `transformers` module and the cache with which it reads several texts at once.

Target and independent drafter both read through this. Where all rows stand at
the same position, as one text alone always does, `transformers` makes its own
attention masks. Where they do not, the masks are made here, from positions: a
query sees the columns up to its own, in a sliding layer the last of them only.
Nothing else about a model is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import Place, RaggedCache
from vocabtrim.decode.model import check_positional

MASKED_ATTENTION = ("sdpa", "eager")
"""Kinds of attention of `transformers` that take a mask of any form."""


class Reader:
    """Passes of a model over the new tokens of several texts.

    Args:
        module: A causal LM of `transformers`, or its trunk.

    Raises:
        DecodeError: Its cache cannot be cropped by position.
    """

    def __init__(self, module: Any) -> None:
        check_positional(module.config)
        self.module = module
        self.cache = RaggedCache(0, 0)

    def begin(self, columns: int, rows: int = 1) -> None:
        """Forget everything and begin `rows` empty texts of at most `columns` tokens.

        Buffers that are large enough are used again.
        """
        if rows > self.cache.rows or columns > self.cache.columns:
            self.cache = RaggedCache(rows, columns, self.module.device)
        self.cache.keep(())
        self.cache.open(rows)

    @torch.inference_mode()
    def read(
        self, token_ids: torch.Tensor, counts: Sequence[int], *, first: int = 0, **options: Any
    ) -> Any:
        """Read new tokens of some texts.

        Args:
            token_ids: [B, T] ids, padded in front.
            counts: [B] tokens of each row; 0 leaves a text as it is.
            first: The first text that is read.
            options: Of the module.

        Returns:
            What the module returns; the last token of each row is the last of the pass.
        """
        place = self.cache.place(counts, first=first)
        outcome = self.module(
            token_ids,
            attention_mask=None if place.even else self._masks(place),
            position_ids=place.positions,
            past_key_values=self.cache,
            use_cache=True,
            **options,
        )
        self.cache.advance()
        return outcome

    def _masks(self, place: Place) -> Any:
        """Return what a model takes as its mask: a tensor, or one for each type of layer."""
        config = self.module.config.get_text_config(decoder=True)
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None)
        if kinds is None:
            return self._mask(place, window)
        return {
            kind: self._mask(place, window if kind == "sliding_attention" else None)
            for kind in set(kinds)
        }

    def _mask(self, place: Place, window: int | None) -> Any:
        """Return the mask [B, 1, T, columns] in the form that the attention expects."""
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        kind = self.module.config.get_text_config(decoder=True)._attn_implementation
        if kind not in MASKED_ATTENTION:
            raise DecodeError(
                f"the model attends by {kind}, which reads texts of different lengths only one "
                f"at a time; load it with {' or '.join(MASKED_ATTENTION)} attention"
            )

        def seen(row: Any, _head: Any, query: Any, column: Any) -> Any:
            position = place.positions[row, query]
            past = column <= position
            return past if window is None else past & (column > position - window)

        return ALL_MASK_ATTENTION_FUNCTIONS[kind](
            batch_size=len(place.counts),
            q_length=place.width,
            kv_length=place.end,
            mask_function=seen,
            allow_is_causal_skip=False,
            dtype=self.module.get_input_embeddings().weight.dtype,
            device=place.positions.device,
        )


def padded(texts: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Return ids [B, T] int64 of rows that end together, padded in front with 0."""
    width = max(map(len, texts))
    rows = [[0] * (width - len(text)) + list(text) for text in texts]
    return torch.tensor(rows, device=device)
