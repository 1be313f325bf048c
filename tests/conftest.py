"""Fixtures that several layers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vocabtrim.tensors.cache import cache_directory


@pytest.fixture(scope="session")
def demo_cache() -> Iterator[Path]:
    """Fix the cache for the session, so that the demo pair is fetched and built once."""
    directory = cache_directory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOCABTRIM_CACHE", str(directory))
        yield directory
