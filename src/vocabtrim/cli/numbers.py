"""Numbers on the command line: `1,2,4` or `1-8`, and `DOMAIN=W`.

One reading for every option that takes several, with one error.
"""

from __future__ import annotations

from collections.abc import Sequence

from vocabtrim.core.errors import VocabtrimError


class NumbersError(VocabtrimError):
    """A list of numbers does not parse."""


def numbers(text: str, option: str) -> list[int]:
    """Return the numbers of `1,2,4` or `1-8`.

    Raises:
        NumbersError: It is neither; names the option.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            some = range(int(first), int(last) + 1) if dash else [int(first)]
            if not some:
                raise ValueError(part)
            found += some
    except ValueError as fault:
        raise NumbersError(
            f"{option} takes numbers with commas, or a range as 1-8, found {text!r}"
        ) from fault
    return found


def weights(pairs: Sequence[str]) -> dict[str, float]:
    """Return domain to factor, of `DOMAIN=W`s.

    Raises:
        NumbersError: One is something else.
    """
    found = {}
    for pair in pairs:
        domain, equals, number = pair.rpartition("=")
        try:
            found[domain] = float(number)
        except ValueError:
            equals = ""
        if not (domain and equals):
            raise NumbersError(f"--weight takes DOMAIN=NUMBER, found {pair!r}")
    return found
