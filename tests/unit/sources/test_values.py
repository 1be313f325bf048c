"""Values: read from JSON with every fault as one sentence, taken as lists, named."""

from __future__ import annotations

from typing import Any

import pytest

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.values import kind, listed, parsed


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b' {"a": [1, 2.5, null]}\n', {"a": [1, 2.5, None]}),
        ('"\\ud83d\\ude42"', "🙂"),
        (b'"\\\\ud83d"', "\\ud83d"),
        (b"1e999", float("inf")),
    ],
)
def test_json_is_read(raw: bytes | str, value: Any) -> None:
    assert parsed(raw) == value


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not valid JSON"),
        ("\ufeff1", "not valid JSON"),
        (b'{"a": 1}{', "Extra data"),
        (b'"\xe9"', "it is not UTF-8 text"),
        ('"\\udc00"', "half a character"),
        ('{"\\uDC00": 1}', "half a character"),
        ("[" * 5000, "too deeply"),
        ("9" * 5000, "thousands of digits"),
        ('"\n"', "Invalid control character"),
    ],
)
def test_what_is_wrong_is_one_sentence(raw: bytes | str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        parsed(raw)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1], [1]),
        ("[1, 2]", [1, 2]),
        ({"a": [1, 2], "b": [3, 4]}, [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
        ('{"a": [1]}', [{"a": 1}]),
        ({"a": []}, []),
    ],
)
def test_lists_come_in_three_ways(value: Any, expected: list[Any]) -> None:
    assert listed(value, "x") == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a", "`x` must be a list, or one as JSON: it is not valid JSON"),
        ("5", "`x` must be a list, found a number"),
        (None, "found null"),
        ({}, "found an object"),
        ({"a": [1], "b": [1, 2]}, "found an object"),
        ({"a": 1}, "found an object"),
    ],
)
def test_what_is_no_list_is_refused(value: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        listed(value, "x")


def test_values_are_named_as_json_names_them() -> None:
    values = ({}, [], "", None, True, 1, 1.5, b"")
    names = [
        "an object",
        "a list",
        "text",
        "null",
        "true or false",
        "a number",
        "a number",
        "bytes",
    ]
    assert list(map(kind, values)) == names
