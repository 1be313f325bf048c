"""Which kept rows a tensor-parallel rank holds, and which of their logits is best.

Rows are shared out by their position in the list of kept ids. By id, as a target's
head is shared out, nearly all kept rows would lie on the first rank: merges are
numbered in the order of their frequency, so frequent ids are low ones. Ids ascend
with positions, so the lowest of several equal positions is also the lowest id,
over any number of ranks as over one.

Pure functions of tensors: no process group and nothing of vLLM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PADDING = 64
"""Rows of which a rank's part is a multiple with one rank, as vLLM pads its heads."""

EXACT = 1 << 24
"""Positions below this are exact in float32, in which they travel beside logits."""


@dataclass(frozen=True)
class Share:
    """The rows of one rank.

    Args:
        first: Position of its first row in the list of kept ids.
        rows: Kept rows that it holds; none where K is small and ranks are many.
        padded: Rows of its matrix, the last `padded - rows` of zeros.
    """

    first: int
    rows: int
    padded: int


def padding_of(ranks: int) -> int:
    """Return the multiple to which K is padded, so that each rank gets as many rows."""
    return math.lcm(PADDING, ranks)


def share_of(K: int, ranks: int, rank: int) -> Share:
    """Return the rows of one of several ranks.

    Args:
        K: Kept rows, at most 2²⁴.
        ranks: How many ranks there are.
        rank: Which one, from 0.

    Raises:
        ValueError: There is no such rank, or there are no rows, or too many.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"there is no rank {rank} among {ranks}")
    if not 0 < K <= EXACT:
        raise ValueError(f"a reduced head has between 1 and {EXACT} rows, found {K}")
    padding = padding_of(ranks)
    padded = -(-K // padding) * padding // ranks
    first = min(rank * padded, K)
    return Share(first, min(K - first, padded), padded)


def local_best(logits: torch.Tensor, share: Share) -> torch.Tensor:
    """Return the best logit of a rank's rows, and where in the kept list it stands.

    Args:
        logits: [B, padded], of which those beyond `share.rows` mean nothing.
        share: The rank's rows.

    Returns:
        [B, 2] float32: the logit and its position; minus infinity without rows.
    """
    import torch

    if share.rows == 0:
        nothing = logits.new_full((logits.shape[0], 2), -math.inf, dtype=torch.float32)
        nothing[:, 1] = share.first
        return nothing
    value, position = logits[:, : share.rows].max(dim=-1)
    return torch.stack([value.float(), (position + share.first).float()], dim=-1)


def best_position(pairs: torch.Tensor) -> torch.Tensor:
    """Return the position of the best logit over all ranks; the lowest where several are.

    Args:
        pairs: [B, ranks, 2], what `local_best` returned, in the order of the ranks.

    Returns:
        [B] int64.
    """
    import torch

    rank = pairs[:, :, 0].argmax(dim=-1, keepdim=True)
    return pairs[:, :, 1].gather(-1, rank).squeeze(-1).to(torch.int64)
