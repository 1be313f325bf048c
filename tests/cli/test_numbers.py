from __future__ import annotations

import pytest

from vocabtrim.cli.numbers import NumbersError, numbers, weights


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


def test_weights() -> None:
    assert weights(["code=2", "a=b=0.5"]) == {"code": 2.0, "a=b": 0.5}


@pytest.mark.parametrize("text", ["code", "code=", "=2", "code=x"])
def test_what_is_no_weight_is_named(text: str) -> None:
    with pytest.raises(NumbersError, match="--weight takes DOMAIN=NUMBER"):
        weights([text])
