"""What a drafter does, and the head that all of them share.

A drafter is told what was committed and proposes what comes next. `ReducedHead`
is where the draft vocabulary acts: logits are computed for the kept rows only
and the best row is mapped to its id once; nothing V wide exists in a draft step
unless K = V, and then there is no map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch.nn.functional import linear

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab


class ReducedHead:
    """Rows of an LM head and the ids that they stand for.

    Args:
        weight: [K, H], row = draft id.
        vocab: The ids of the rows.
        bias: [K], where the head has one.

    Raises:
        DecodeError: Rows and ids differ in number.
    """

    def __init__(
        self, weight: torch.Tensor, vocab: DraftVocab, bias: torch.Tensor | None = None
    ) -> None:
        if weight.shape[0] != vocab.size:
            raise DecodeError(
                f"a head of {weight.shape[0]} rows cannot serve a vocabulary of {vocab.size} ids"
            )
        self.weight, self.vocab, self.bias = weight, vocab, bias
        # a copy, because the vocabulary's ids are read-only
        ids = torch.from_numpy(vocab.ids.copy()).to(weight.device)
        self._ids = None if vocab.is_full else ids

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits over draft ids: [..., H] to [..., K]."""
        return linear(hidden, self.weight, self.bias)

    def best(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the target id of the best row: [H] to a scalar int64."""
        row = self.logits(hidden).argmax()
        return row if self._ids is None else self._ids[row]


class Drafter(Protocol):
    """What `speculate` asks of a drafter; one text at a time."""

    head: ReducedHead

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """Which hidden states of the target it is fed."""
        ...

    def begin(self, columns: int) -> None:
        """Forget everything and make room for `columns` tokens."""
        ...

    def commit(self, token_ids: Sequence[int], features: torch.Tensor | None) -> None:
        """Learn what the target stands by.

        Args:
            token_ids: [n] ids that follow the committed ones.
            features: [n, F] the target's features of the n positions *before*
                these tokens, or as many as there are: the position of the token
                before each. For the first call, of a prompt, there is none
                before the first token: [n - 1, F].
        """
        ...

    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        """Return what the head reads at each depth if the drafts were these.

        The cache is as before afterwards.

        Args:
            draft_ids: [n] ids, n may be 0.

        Returns:
            [n + 1, H] inputs of the head: the first before any draft.
        """
        ...

    def propose(self, length: int) -> list[int]:
        """Draft what follows the committed tokens.

        Args:
            length: Tokens to draft, at least 1.

        Returns:
            [length] target ids.
        """
        ...
