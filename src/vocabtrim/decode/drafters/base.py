"""What a drafter does, the head that all of them share, and how both make a draft.

A drafter is told what was committed and gives hidden states, one step at a time,
for several texts side by side. `ReducedHead` is where the draft vocabulary acts:
logits are computed for the kept rows only and the row taken is mapped to its id
once; nothing V wide exists in a draft step unless K = V, and then there is no
map. `propose` is the same for all drafters: the likeliest row, or one drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.accept import Proposal
from vocabtrim.decode.packed import Product, product
from vocabtrim.decode.sampling import Sampling, distribution, pick


class ReducedHead:
    """Rows of an LM head and the ids that they stand for.

    Where weights are packed (`decode/packed.py`), a copy lies beside them once
    logits were asked for.

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
        self.ids = None if vocab.is_full else ids
        """[K] int64 target ids of the rows; None where rows are ids."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits over draft ids: [..., H] to [..., K]."""
        return self._product(hidden)

    @cached_property
    def _product(self) -> Product:
        # when first needed: it may copy the weight
        return product(self.weight, self.bias)

    def target_ids(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the target ids of rows, of any shape."""
        return rows if self.ids is None else self.ids[rows]

    def best(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the target ids of the best rows: [..., H] to [...] int64."""
        return self.target_ids(self.logits(hidden).argmax(dim=-1))


class Drafter(Protocol):
    """What decoding asks of a drafter: hidden states, one step at a time.

    Texts lie in rows, side by side. `start` and `step` are provisional: what
    they add to the cache, `rewind` takes away.
    """

    head: ReducedHead

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """Which hidden states of the target it is fed."""
        ...

    def begin(self, columns: int, rows: int = 1) -> None:
        """Forget everything and begin `rows` empty texts, with room for `columns` tokens each."""
        ...

    def open(self, rows: int) -> None:
        """Begin empty texts behind the others."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Let only these texts go on, in this order."""
        ...

    def commit(self, token_ids: Sequence[int], features: torch.Tensor | None, row: int = 0) -> None:
        """Learn what the target stands by in one text.

        Args:
            token_ids: [n] ids that follow the committed ones.
            features: [n, F] the target's features of the n positions *before*
                these tokens, or as many as there are: the position of the token
                before each. For the first call, of a prompt, there is none
                before the first token: [n - 1, F].
            row: Which text.
        """
        ...

    def start(self) -> torch.Tensor:
        """Return what the head reads behind the committed tokens, [B, H]."""
        ...

    def step(self, token_ids: torch.Tensor, alive: Sequence[bool]) -> torch.Tensor:
        """Return what the head reads behind one more draft token, [B, H].

        Args:
            token_ids: [B] target ids.
            alive: [B] texts that go on; what is returned of others means nothing.
        """
        ...

    def rewind(self) -> None:
        """Forget the draft; the cache is that of the committed tokens."""
        ...

    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        """Return what the head reads at each depth of one text if the drafts were these.

        The cache is as before afterwards.

        Args:
            draft_ids: [n] ids, n may be 0.

        Returns:
            [n + 1, H] inputs of the head: the first before any draft.
        """
        ...


@torch.inference_mode()
def propose(
    drafter: Drafter,
    lengths: Sequence[int],
    sampling: Sampling | None = None,
    draws: torch.Tensor | None = None,
    *,
    confidence: float = 0.0,
) -> Proposal:
    """Draft what follows the committed tokens.

    Args:
        drafter: Knows what was committed.
        lengths: [B] tokens to draft for each text; n is the largest, at least 1.
        sampling: How drafts are drawn; None takes the likeliest.
        draws: [B, n] numbers in [0, 1), where drafts are drawn.
        confidence: A text's draft ends where the drafter's likeliest id is less
            probable than this. That is known before a token is drawn there and does
            not depend on which one would be, so verification stays exact.

    Returns:
        [B, n] drafts, and how many of each text count; what is behind them means
        nothing. With their q over the draft vocabulary where they were drawn: the
        drafter's own logits, filtered and scaled to sum to 1 there.
    """
    head, counts = drafter.head, list(lengths)
    drafts: list[torch.Tensor] = []
    q: list[torch.Tensor] = []
    while len(drafts) < max(counts):
        depth = len(drafts)
        alive = [depth < count for count in counts]
        hidden = drafter.step(drafts[-1], alive) if drafts else drafter.start()
        logits = head.logits(hidden)
        drawn = None if sampling is None or draws is None else distribution(logits, sampling)
        if confidence > 0.0:
            sure = (_highest(logits, drawn) >= confidence).tolist()
            counts = [
                count if one else min(count, depth) for count, one in zip(counts, sure, strict=True)
            ]
            if max(counts) <= depth:
                break
        if drawn is None or draws is None:
            drafts.append(head.target_ids(logits.argmax(dim=-1)))
        else:
            q.append(drawn)
            drafts.append(head.target_ids(pick(drawn, draws[:, depth])))
    drafter.rewind()
    if not drafts:
        nothing = torch.zeros((len(counts), 0), dtype=torch.int64, device=hidden.device)
        return Proposal(nothing, counts=tuple(counts))
    ids = torch.stack(drafts, dim=1)
    return Proposal(ids, torch.stack(q, dim=1) if q else None, head.ids, tuple(counts))


def _highest(logits: torch.Tensor, chances: torch.Tensor | None) -> torch.Tensor:
    """[B] the probability of the likeliest row, of logits where there are no chances yet."""
    if chances is not None:
        return chances.amax(dim=-1)
    wide = logits.float()
    return (wide.amax(dim=-1) - wide.logsumexp(dim=-1)).exp()
