"""Data from outside the package: `$VOCABTRIM_DATA`, or the test is skipped by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def outside_files(pattern: str) -> list[Path]:
    """Return the files of the data directory that match; skip the test without any."""
    place = os.environ.get("VOCABTRIM_DATA")
    if not place:
        return pytest.skip("VOCABTRIM_DATA names no directory of data")
    found = sorted(Path(place).glob(pattern))
    return found or pytest.skip(f"there is no {pattern} in {place}")
