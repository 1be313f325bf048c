"""Values as JSON has them: read from text, taken as lists, and named in messages.

One reader of JSON for all sources, so that what no tokenizer can take (bytes that
are not UTF-8, escapes that are half a character) is found wherever it stands,
and whatever is wrong becomes one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vocabtrim.core.errors import CalibrationError


def parsed(raw: bytes | str) -> Any:
    """Return what JSON says.

    Raises:
        CalibrationError: It is not valid, too deep, not UTF-8, or has an escape
            that is half a character, which no tokenizer takes.
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as fault:
        raise CalibrationError("it is not UTF-8 text") from fault
    except UnicodeEncodeError as fault:
        raise CalibrationError("an escape is half a character (a lone surrogate)") from fault
    except RecursionError as fault:
        raise CalibrationError("its JSON is nested too deeply") from fault
    except json.JSONDecodeError as fault:
        raise CalibrationError(f"it is not valid JSON ({fault.msg})") from fault
    except ValueError as fault:
        raise CalibrationError(
            "it is not valid JSON (a number with thousands of digits)"
        ) from fault
    return value


def listed(value: Any, name: str) -> list[Any]:
    """Return a list, also one that is written as JSON or stored by columns."""
    if isinstance(value, str):
        try:
            value = parsed(value)
        except CalibrationError as fault:
            raise CalibrationError(f"`{name}` must be a list, or one as JSON: {fault}") from fault
    if isinstance(value, dict) and _is_columns(value):
        value = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise CalibrationError(f"`{name}` must be a list, found {kind(value)}")
    return value


def _is_columns(value: Mapping[str, Any]) -> bool:
    """Whether an object is lists of one length, as datasets once stored a list of objects."""
    columns = list(value.values())
    return all(isinstance(one, list) for one in columns) and len(set(map(len, columns))) == 1


def kind(value: Any) -> str:
    """Return what a value is called in JSON."""
    names = {dict: "an object", list: "a list", str: "text", type(None): "null"}
    if isinstance(value, bool | int | float):
        return "true or false" if isinstance(value, bool) else "a number"
    return names.get(type(value), type(value).__name__)
