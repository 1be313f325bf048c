"""What holds for every calibration source there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocabtrim.sources.base import SOURCES, Document, Reading, source_of
from vocabtrim.tokens.messages import Conversation

READING = Reading("sha256:t", 1000)


@pytest.fixture(params=SOURCES.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def example(name: str, directory: Path) -> Path:
    """Write a source's example under a name that says nothing."""
    path = directory / "data"
    path.write_bytes(SOURCES.load(name).example)
    return path


def as_text(document: Document) -> str:
    """Return a document so that equal ones are equal."""
    return f"{document.path}:{document.line}:{document.stop}:{document.domain}:{document.content}"


def test_it_says_what_it_is(name: str) -> None:
    summary = SOURCES.load(name).summary
    assert summary
    assert "\n" not in summary


def test_its_content_is_told_from_all_others(name: str, tmp_path: Path) -> None:
    assert source_of(example(name, tmp_path)) is SOURCES.load(name)


def test_documents_come_in_order_and_end_inside_the_file(name: str, tmp_path: Path) -> None:
    path = example(name, tmp_path)
    documents = list(SOURCES.load(name).read(path, READING))
    assert documents
    places = [document.stop for document in documents]
    assert places == sorted(set(places))
    assert 0 < places[-1] <= path.stat().st_size
    assert all(document.path == path and document.line >= 1 for document in documents)
    for document in documents:
        assert isinstance(document.content, str | Conversation | np.ndarray)


def test_reading_twice_gives_the_same(name: str, tmp_path: Path) -> None:
    path = example(name, tmp_path)
    source = SOURCES.load(name)
    first, second = ([as_text(one) for one in source.read(path, READING)] for _ in range(2))
    assert first == second


def test_an_empty_file_has_no_documents(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert list(SOURCES.load(name).read(tmp_path / "empty", READING)) == []
