"""What drafters with a key-value cache share: what was committed, and what was read.

At the start of a cycle the cache holds committed tokens only. Whatever was
committed since waits in its row and is read by the next draft's first pass, all
texts together, the last accepted draft token included (after a fully accepted
draft it was proposed but never read, and forgetting it is the classic fault of
such drafters). What a draft itself adds is taken back when it ends. So every
draft starts from what a fresh pass over the committed tokens would give.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import RaggedCache
from vocabtrim.decode.drafters.base import ReducedHead, propose


class CachedDrafter(ABC):
    """A drafter that reads what was committed when it drafts, and no sooner.

    Args:
        head: The kept rows.
    """

    def __init__(self, head: ReducedHead) -> None:
        self.head = head
        self._unread: list[list[int]] = []
        self._committed: torch.Tensor | None = None
        self._drafted = torch.empty(0)
        self._lengths: tuple[int, ...] = ()

    @property
    @abstractmethod
    def feature_layers(self) -> tuple[int, ...]:
        """Which hidden states of the target it is fed."""

    @property
    @abstractmethod
    def cache(self) -> RaggedCache:
        """Keys and values of the committed tokens that were read."""

    @property
    def unread(self) -> tuple[tuple[int, ...], ...]:
        """Committed tokens of each text that the next draft reads first."""
        return tuple(map(tuple, self._unread))

    @abstractmethod
    def begin(self, columns: int, rows: int = 1) -> None:
        """Forget everything and begin `rows` empty texts, with room for `columns` tokens each."""
        self._unread = [[] for _ in range(rows)]
        self._committed = None

    def open(self, rows: int) -> None:
        """Begin empty texts behind the others."""
        self.cache.open(rows)
        self._unread.extend([] for _ in range(rows))

    def keep(self, rows: Sequence[int]) -> None:
        """Let only these texts go on, in this order."""
        self.cache.keep(rows)
        self._unread = [self._unread[row] for row in rows]
        if self._committed is not None:
            self._committed = self._committed[list(rows)]

    def commit(self, token_ids: Sequence[int], features: torch.Tensor | None, row: int = 0) -> None:
        """Note what the target stands by; it is read with the next draft."""
        self._unread[row].extend(token_ids)

    @torch.inference_mode()
    def start(self) -> torch.Tensor:
        """Return what the head reads behind the committed tokens, [B, H].

        Raises:
            DecodeError: A text has no token that could be read.
        """
        self._drafted = self._committed = self._read_committed()
        self._lengths = self.cache.lengths
        return self._head_input(self._drafted)

    @torch.inference_mode()
    def step(self, token_ids: torch.Tensor, alive: Sequence[bool]) -> torch.Tensor:
        """Return what the head reads behind one more draft token, [B, H]."""
        self._drafted = self._read_draft(token_ids, self._drafted, [int(one) for one in alive])
        return self._head_input(self._drafted)

    def rewind(self) -> None:
        """Forget the draft; the cache is that of the committed tokens."""
        drafted = zip(self.cache.lengths, self._lengths, strict=True)
        self.cache.crop([now - then for now, then in drafted])

    def propose(self, length: int) -> list[int]:
        """Return the likeliest draft of one text, [length] target ids."""
        return [int(token) for token in propose(self, [length]).ids[0]]

    @torch.inference_mode()
    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        """Return what the head reads before and after each of these drafts, [n + 1, H]."""
        states = [self.start()]
        for token in draft_ids:
            states.append(self.step(torch.tensor([token], device=states[0].device), [True]))
        self.rewind()
        return torch.cat(states)

    def _read_committed(self) -> torch.Tensor:
        """Read what waits; return the state behind each text, [B, H]."""
        if self._committed is not None and not any(self._unread):
            return self._committed
        if not all(self._unread):
            raise DecodeError(
                "a text has no committed token to draft from (EAGLE-3 drafts from the second on)"
            )
        # texts that were never read are the last ones; their prompts are long, and the others
        # are not padded to them
        rows = len(self._unread)
        read = sum(length > 0 for length in self.cache.lengths)
        parts = [range(read), range(read, rows)]
        states = [self._read_rows(part) for part in parts if part]
        self._unread = [[] for _ in range(rows)]
        return states[0] if len(states) == 1 else torch.cat(states)

    @abstractmethod
    def _read_rows(self, rows: range) -> torch.Tensor:
        """Read what waits in some rows; return the states behind them, [B, H]."""

    @abstractmethod
    def _read_draft(
        self, token_ids: torch.Tensor, state: torch.Tensor, counts: Sequence[int]
    ) -> torch.Tensor:
        """Read draft tokens [B] behind states [B, H], where counts [B] are 1; return new states."""

    def _head_input(self, state: torch.Tensor) -> torch.Tensor:
        """Return what the head reads of states [B, H]."""
        return state
