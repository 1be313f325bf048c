from __future__ import annotations

import pytest

from vocabtrim.cli.numbers import NumbersError, numbers


@pytest.mark.parametrize(
    ("text", "found"),
    [("3", [3]), ("1,4,2", [1, 4, 2]), ("1-4", [1, 2, 3, 4]), ("9,1-2", [9, 1, 2])],
)
def test_numbers(text: str, found: list[int]) -> None:
    assert numbers(text, "--gamma") == found


@pytest.mark.parametrize("text", ["", "x", "1,,2", "1-", "-2", "8-1"])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(NumbersError, match="--gamma takes numbers"):
        numbers(text, "--gamma")
