"""From logits to one token: greedy, or a draw that knows where it belongs.

A draw is one number in [0, 1) hashed from (seed, key of the prompt, position)
and what it is for, so a sample does not depend on which prompts share its batch,
on the order in which rows finish, or on a run that was interrupted and continued.
Nothing here holds a random state. (Logits of one row still differ by rounding
between batch shapes; a draw that falls within that rounding of a boundary may
change.) A draw for a position decides nothing before that position, so a draft
that is thrown away may leave its draws to the next one: they are still fresh.

Filters follow `transformers`: temperature, then top-k, then top-p; ids tied at
a filter's edge are all kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vocabtrim.core.errors import DecodeError

NUCLEUS_GUESS = 1024
"""Ids looked at before a full sort: nearly every nucleus is smaller."""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Args:
        temperature: 0 is greedy.
        top_k: Ids kept before the nucleus; None keeps all.
        top_p: Mass of the nucleus, in (0, 1]; None keeps all.
        seed: Root of all draws.

    Raises:
        DecodeError: An option is out of range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise DecodeError(f"temperature must be 0 or more, found {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise DecodeError(f"top_k must be at least 1, found {self.top_k}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise DecodeError(f"top_p must lie in (0, 1], found {self.top_p}")

    @property
    def greedy(self) -> bool:
        """Whether the most likely id is always taken."""
        return self.temperature == 0.0


def draw(seed: int, key: str, position: int, purpose: str = "") -> float:
    """Return the number in [0, 1) that belongs to one position of one text.

    Args:
        seed: Root of all draws of a run.
        key: The text, by its id.
        position: Index of the generated token.
        purpose: What it decides; "" is the token itself, drawn from the target.
    """
    place = f"{seed}\0{key}\0{position}".encode()
    digest = hashlib.blake2b(place, digest_size=8, person=purpose.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / float(1 << 53)


def draws(
    seed: int, places: Sequence[tuple[str, int]], count: int, purpose: str = ""
) -> torch.Tensor:
    """Return the numbers of the next positions of some texts.

    Args:
        seed: Root of all draws of a run.
        places: [B] key and first position of each text.
        count: n, positions of each.
        purpose: What they decide.

    Returns:
        [B, n] float64.
    """
    table = [
        [draw(seed, key, first + ahead, purpose) for ahead in range(count)] for key, first in places
    ]
    return torch.tensor(table, dtype=torch.float64).view(len(places), count)


def distribution(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return the probabilities from which a token is drawn.

    Args:
        logits: [..., V].
        sampling: Options; the temperature is above 0.

    Returns:
        [..., V] float32, or float64 where logits are; rows sum to 1.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    scaled = logits.to(wide) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled.shape[-1]:
        edge = scaled.topk(sampling.top_k).values[..., -1:]
        scaled = scaled.masked_fill(scaled < edge, float("-inf"))
    chances = torch.softmax(scaled, dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1.0:
        chances = chances.masked_fill(chances < _nucleus_edge(chances, sampling.top_p), 0.0)
        chances = chances / chances.sum(dim=-1, keepdim=True)
    return chances


def choose(logits: torch.Tensor, sampling: Sampling, draws: Sequence[float]) -> list[int]:
    """Choose one id a row.

    Args:
        logits: [B, V].
        sampling: Greedy, or how the distribution is shaped.
        draws: [B] numbers in [0, 1); unused where greedy.

    Returns:
        [B] ids.
    """
    if sampling.greedy:
        return [int(token) for token in logits.argmax(dim=-1)]
    numbers = torch.tensor(draws, dtype=torch.float64, device=logits.device)
    return [int(token) for token in pick(distribution(logits, sampling), numbers)]


def pick(weights: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Draw one index a row.

    Args:
        weights: [B, N] of any positive sum; the chances are these over their sum.
        draws: [B] float64 numbers in [0, 1).

    Returns:
        [B] int64: the first index whose cumulative weight exceeds the draw.
    """
    cumulative = weights.double().cumsum(dim=-1)
    total = cumulative[:, -1:]
    # below the total, so that an index of weight 0 behind the last one is never reached
    wanted = torch.minimum(draws[:, None] * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, wanted, right=True)[:, 0]


def _nucleus_edge(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """[..., V] to [..., 1]: the smallest probability inside the nucleus."""
    for size in (min(NUCLEUS_GUESS, chances.shape[-1]), chances.shape[-1]):
        highest = chances.topk(size).values
        mass = highest.cumsum(dim=-1)
        if bool((mass[..., -1] >= top_p).all()):
            break
    inside = (mass < top_p).sum(dim=-1, keepdim=True).clamp(max=size - 1)
    return highest.gather(-1, inside)
