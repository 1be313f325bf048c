"""An independent drafter: a small causal LM of the target's tokenizer.

It reads the same tokens as the target, with a cache of its own
(`drafters/cached.py`), and needs nothing of the target. Its trunk is opened by
`transformers`; its head is left to the kept rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import RaggedCache
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.drafters.cached import CachedDrafter
from vocabtrim.decode.model import check_positional, quietly
from vocabtrim.decode.packed import pack_linears
from vocabtrim.decode.reader import Reader, padded


class IndependentDrafter(CachedDrafter):
    """A trunk of `transformers` and a reduced head.

    Args:
        trunk: The model without its head (`AutoModel`).
        head: The kept rows.
    """

    def __init__(self, trunk: Any, head: ReducedHead) -> None:
        super().__init__(head)
        self.trunk = trunk
        self._reader = Reader(trunk)

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """None: it reads tokens, not features."""
        return ()

    @property
    def cache(self) -> RaggedCache:
        """Keys and values of the committed tokens that were read."""
        return self._reader.cache

    def begin(self, columns: int, rows: int = 1) -> None:
        """Forget everything and begin `rows` empty texts, with room for `columns` tokens each."""
        super().begin(columns, rows)
        self._reader.begin(columns, rows)

    @torch.inference_mode()
    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        """Return what the head reads before and after each of these drafts, [n + 1, H].

        One pass reads them all, for a draft token needs nothing but those before it.
        """
        states = self.start()
        if not draft_ids:
            return states
        ids = padded([draft_ids], self.trunk.device)
        after = self._reader.read(ids, [len(draft_ids)]).last_hidden_state[0]
        self.rewind()
        return torch.cat([states, after])

    def _read_rows(self, rows: range) -> torch.Tensor:
        waiting = self._unread[rows.start : rows.stop]
        ids, counts = padded(waiting, self.trunk.device), [len(one) for one in waiting]
        states: torch.Tensor = self._reader.read(ids, counts, first=rows.start).last_hidden_state
        return states[:, -1]

    def _read_draft(
        self, token_ids: torch.Tensor, state: torch.Tensor, counts: Sequence[int]
    ) -> torch.Tensor:
        states: torch.Tensor = self._reader.read(token_ids[:, None], counts).last_hidden_state
        return states[:, -1]


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
    return pack_linears(trunk.eval().to(device))
