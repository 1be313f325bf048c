"""An independent drafter: a small causal LM of the target's tokenizer.

It reads the same tokens as the target. Its cache holds committed tokens only
at the start of a cycle: drafts are cropped away, and whatever was committed
and not yet read goes first into the next pass, the last accepted draft token
included (after a fully accepted draft it was proposed but never read, and
forgetting it is the classic fault of such drafters).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import ColumnCache
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.model import check_positional, quietly


class IndependentDrafter:
    """A trunk of `transformers` and a reduced head.

    Args:
        trunk: The model without its head (`AutoModel`).
        head: The kept rows.
    """

    def __init__(self, trunk: Any, head: ReducedHead) -> None:
        self.trunk, self.head = trunk, head
        self._cache = ColumnCache(1, 0)
        self._unread: list[int] = []

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """None: it reads tokens, not features."""
        return ()

    @property
    def cache(self) -> ColumnCache:
        """Keys and values of the committed tokens that were read."""
        return self._cache

    @property
    def unread(self) -> tuple[int, ...]:
        """Committed tokens that the next draft reads first."""
        return tuple(self._unread)

    def begin(self, columns: int) -> None:
        """Forget everything and make room for `columns` tokens."""
        self._cache = ColumnCache(1, columns)
        self._unread = []

    def commit(self, token_ids: Sequence[int], features: torch.Tensor | None) -> None:
        """Note what the target stands by; it is read with the next draft."""
        self._unread.extend(token_ids)

    @torch.no_grad()
    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        """Return what the head reads before and after each of these drafts, [n + 1, H]."""
        ids = torch.tensor([*self._unread, *draft_ids], device=self.trunk.device)
        states = self._read(ids)[-len(draft_ids) - 1 :]
        self._unread = []
        self._cache.crop(len(draft_ids))
        return states

    @torch.no_grad()
    def propose(self, length: int) -> list[int]:
        """Draft `length` tokens; the cache keeps committed tokens only."""
        committed = len(self._cache) + len(self._unread)
        hidden = self._read(torch.tensor(self._unread, device=self.trunk.device))[-1]
        self._unread = []
        draft = [self.head.best(hidden)]
        while len(draft) < length:
            draft.append(self.head.best(self._read(draft[-1][None])[-1]))
        self._cache.crop(len(self._cache) - committed)
        return [int(token) for token in draft]

    def _read(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Pass [T] ids; return their hidden states, [T, H]."""
        begin, count = len(self._cache), token_ids.shape[0]
        positions = torch.arange(begin, begin + count, device=token_ids.device)
        outcome = self.trunk(
            input_ids=token_ids[None],
            position_ids=positions[None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache.advance(count)
        states: torch.Tensor = outcome.last_hidden_state[0]
        return states


def load_trunk(directory: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """Read a causal LM without its head, whatever the head holds.

    Args:
        directory: A Hugging Face directory, trimmed or not.
        dtype: Of the weights.
        device: Where they go.

    Raises:
        DecodeError: `transformers` cannot load all of it, or its cache cannot be
            cropped.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    before = logging.get_verbosity()
    # the head and its maps are not the trunk's, and need no remark
    logging.set_verbosity_error()
    try:
        with quietly(logging):
            trunk, told = AutoModel.from_pretrained(
                directory, dtype=dtype, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise DecodeError(f"{directory}: transformers cannot load its trunk ({reason})") from fault
    finally:
        logging.set_verbosity(before)
    if missing := sorted(told["missing_keys"]):
        # transformers fills what is missing at random
        raise DecodeError(f"{directory}: the weights of {missing[0]} are missing")
    check_positional(trunk.config)
    return trunk.eval().to(device)
