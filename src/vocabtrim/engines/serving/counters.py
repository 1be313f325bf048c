"""An engine's own counters: how many tokens it drafted, and how many it accepted.

Both engines publish them as Prometheus text under `/metrics`, totals since the
start; what a block of requests added is the difference of two readings. The
second is only right once the engine has counted the block, which it does after
it answered: `counted` says so by the tokens that the answers themselves state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from operator import add

_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_POSITION = re.compile(r'position="(\d+)"')


@dataclass(frozen=True)
class CounterNames:
    """What an engine calls its counters.

    Args:
        tokens: Tokens generated, the first of each answer included.
        drafts: Target passes that verified a draft.
        drafted: Draft tokens.
        accepted: Draft tokens accepted.
        by_position: The same by `position`, from 0.
        seconds: Time of decoding, summed over requests; None where answers state it.
        exact_below: Totals from here on are printed rounded.
    """

    tokens: str
    drafts: str
    drafted: str
    accepted: str
    by_position: str
    seconds: str | None = None
    exact_below: float = 2.0**53


@dataclass(frozen=True)
class Metrics:
    """One reading of `/metrics`.

    Args:
        totals: Name to its value, summed over everything but positions.
        positions: Name to position to value, where a sample has a position.
    """

    totals: Mapping[str, float]
    positions: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Counted:
    """What an engine counted over some requests.

    Args:
        new_tokens: Tokens generated.
        drafts: Target passes that verified a draft.
        drafted: Draft tokens.
        accepted: Draft tokens accepted.
        accepted_at: [gamma] drafts accepted at each position.
        decode_s: Seconds of decoding, summed over requests; None where not counted.
    """

    new_tokens: int = 0
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0
    accepted_at: tuple[int, ...] = field(default=())
    decode_s: float | None = None

    def __add__(self, other: Counted) -> Counted:
        """Return both together."""
        length = max(len(self.accepted_at), len(other.accepted_at))
        pairs = zip(_padded(self, length), _padded(other, length), strict=True)
        times = [one for one in (self.decode_s, other.decode_s) if one is not None]
        return Counted(
            self.new_tokens + other.new_tokens,
            self.drafts + other.drafts,
            self.drafted + other.drafted,
            self.accepted + other.accepted,
            tuple(one + two for one, two in pairs),
            sum(times) if times else None,
        )

    @property
    def block_efficiency(self) -> float | None:
        """Tau: one token and the accepted drafts for each verifying pass."""
        return 1.0 + self.accepted / self.drafts if self.drafts else None

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted / drafted tokens."""
        return self.accepted / self.drafted if self.drafted else None

    @property
    def acceptance_by_position(self) -> list[float | None]:
        """[gamma] acceptance at each position, of all drafts."""
        return [one / self.drafts if self.drafts else None for one in self.accepted_at]

    def histogram(self, gamma: int) -> list[int]:
        """Return [gamma + 1] drafts by how many of their tokens were accepted."""
        at_least = [self.drafts, *_padded(self, gamma)[:gamma], 0]
        return [one - more for one, more in pairwise(at_least)]


def total(parts: list[Counted]) -> Counted:
    """Return all parts together."""
    return reduce(add, parts, Counted())


def read_metrics(text: str) -> Metrics:
    """Read Prometheus text; what is no sample is passed over."""
    totals: dict[str, float] = {}
    positions: dict[str, dict[int, float]] = {}
    for line in text.splitlines():
        found = _SAMPLE.fullmatch(line.strip())
        if found is None:
            continue
        name, labels, written = found.groups()
        try:
            value = float(written)
        except ValueError:
            continue
        position = _POSITION.search(labels or "")
        if position is None:
            totals[name] = totals.get(name, 0.0) + value
        else:
            at = positions.setdefault(name, {})
            at[int(position[1])] = at.get(int(position[1]), 0.0) + value
    return Metrics(totals, positions)


def counted(names: CounterNames, before: Metrics, after: Metrics, tokens: int) -> Counted | None:
    """Return what an engine counted between two readings.

    Args:
        names: Of its counters.
        before: Read before the requests.
        after: Read after them.
        tokens: Generated, by the answers.

    Returns:
        None where the engine has not counted just these tokens: not yet, or
        others use it too.
    """
    found = _difference(names.tokens, before, after)
    if found is None or abs(found - tokens) > _rounding(names, after):
        return None
    position = after.positions.get(names.by_position, {})
    earlier = before.positions.get(names.by_position, {})
    depth = max(position, default=-1) + 1
    return Counted(
        new_tokens=tokens,
        drafts=round(_difference(names.drafts, before, after) or 0),
        drafted=round(_difference(names.drafted, before, after) or 0),
        accepted=round(_difference(names.accepted, before, after) or 0),
        accepted_at=tuple(
            round(position.get(one, 0.0) - earlier.get(one, 0.0)) for one in range(depth)
        ),
        decode_s=None if names.seconds is None else _difference(names.seconds, before, after),
    )


def is_exact(names: CounterNames, metrics: Metrics) -> bool:
    """Return whether the totals are still printed with all of their digits."""
    counted_names = (names.tokens, names.drafts, names.drafted, names.accepted)
    return all(metrics.totals.get(one, 0.0) < names.exact_below for one in counted_names)


def _difference(name: str, before: Metrics, after: Metrics) -> float | None:
    if name not in after.totals:
        return None
    return after.totals[name] - before.totals.get(name, 0.0)


def _rounding(names: CounterNames, metrics: Metrics) -> float:
    """Return how far a total may be from what was counted, for how it is printed."""
    value = metrics.totals.get(names.tokens, 0.0)
    return 0.0 if value < names.exact_below else 10.0 * value / names.exact_below


def _padded(counted: Counted, length: int) -> list[int]:
    return [*counted.accepted_at, *([0] * (length - len(counted.accepted_at)))]
