"""Numbers on the command line: `1,2,4` or `1-8`.

One reading for every option that takes several, with one error.
"""

from __future__ import annotations

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
