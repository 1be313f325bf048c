"""From logits to one token: greedy, or a draw that knows where it belongs.

A draw is one number in [0, 1) hashed from (seed, key of the prompt, position),
so a sample does not depend on which prompts share its batch, on the order in
which rows finish, or on a run that was interrupted and continued. Nothing here
holds a random state. (Logits of one row still differ by rounding between batch
shapes; a draw that falls within that rounding of a boundary may change.)

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


def draw(seed: int, key: str, position: int) -> float:
    """Return the number in [0, 1) that belongs to one position of one text.

    Args:
        seed: Root of all draws of a run.
        key: The text, by its id.
        position: Index of the generated token.
    """
    digest = hashlib.blake2b(f"{seed}\0{key}\0{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / float(1 << 53)


def distribution(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return the probabilities from which a token is drawn.

    Args:
        logits: [B, V].
        sampling: Options; the temperature is above 0.

    Returns:
        [B, V] float32, rows sum to 1.
    """
    scaled = logits.float() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled.shape[-1]:
        edge = scaled.topk(sampling.top_k).values[:, -1:]
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
        [B] ids. The inverse of the cumulative distribution: the first id whose
        cumulative probability exceeds the draw.
    """
    if sampling.greedy:
        return [int(token) for token in logits.argmax(dim=-1)]
    cumulative = distribution(logits, sampling).double().cumsum(dim=-1)
    total = cumulative[:, -1:]
    wanted = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None] * total
    # below the total, so that an id of probability 0 behind the last one is never reached
    wanted = torch.minimum(wanted, torch.nextafter(total, torch.zeros_like(total)))
    return [int(token) for token in torch.searchsorted(cumulative, wanted, right=True)[:, 0]]


def _nucleus_edge(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """[B, V] to [B, 1]: the smallest probability inside the nucleus."""
    for size in (min(NUCLEUS_GUESS, chances.shape[-1]), chances.shape[-1]):
        highest = chances.topk(size).values
        mass = highest.cumsum(dim=-1)
        if bool((mass[:, -1] >= top_p).all()):
            break
    inside = (mass < top_p).sum(dim=-1, keepdim=True).clamp(max=size - 1)
    return highest.gather(-1, inside)
