"""`merge`: parts add up to the whole, and what was counted twice is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.calibration import counted, put
from tests.tiny_tokenizer import ADDED, write_tokenizer
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import (
    ArtifactError,
    CalibrationError,
    OutputExists,
    TokenizerMismatch,
)
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.merge import merge


def test_merging_parts_equals_counting_the_whole(place: Path) -> None:
    options: dict[str, Any] = {"domains": {"d": "data/c*"}, "cap_per_document": 2}
    whole = counted("data", **options)
    names = ["a", "b", "c"]
    files = ["data/code.jsonl", "data/chat.jsonl", "data/a.txt"]
    for name, file in zip(names, files, strict=True):
        more = options if "/c" in file else {"cap_per_document": 2}
        count([file], Path("t"), Path(name), **more)
    result = merge([Path(name) for name in names], Path("sum"))
    assert read_counts(Path("sum"))[0] == whole[1]
    assert (result.tokens, result.documents, result.empty) == (
        whole[0].tokens,
        whole[0].documents,
        whole[0].empty,
    )
    assert result.files == 3
    assert result.warnings == whole[0].warnings
    merge([Path(name) for name in (*names[::-1], "a")], Path("mus"))
    assert Path("sum").read_bytes() == Path("mus").read_bytes()


def test_merging_says_what_was_counted_twice(place: Path) -> None:
    put("copy.txt", Path("data/a.txt").read_text())
    count(["data/a.txt"], Path("t"), Path("one"))
    count(["copy.txt", "data/code.jsonl"], Path("t"), Path("two"), role="all")
    result = merge([Path("one"), Path("two")], Path("both"))
    assert result.warnings == (
        "copy.txt was counted in 2 of the files, so its tokens count that often",
        "the files were counted with different role: ['all', 'assistant']",
    )
    # and also behind counts that were merged before
    again = merge([Path("both"), Path("one")], Path("again"))
    assert "copy.txt was counted in 2 of the files" in again.warnings[0]


def test_merging_what_does_not_fit_is_refused(place: Path) -> None:
    count(["data"], Path("t"), Path("one"))
    write_tokenizer(place / "u", added=(*ADDED, "<more>"))
    count(["data"], Path("u"), Path("two"))
    with pytest.raises(TokenizerMismatch, match="two was counted with another tokenizer"):
        merge([Path("one"), Path("two")], Path("out"))
    with pytest.raises(ArtifactError, match=r"a\.txt is no count file of ours"):
        merge([Path("one"), Path("data/a.txt")], Path("out"))
    with pytest.raises(CalibrationError, match="no count files"):
        merge([], Path("out"))
    with pytest.raises(OutputExists):
        merge([Path("one")], Path("two"))
    assert not (place / "out").exists()
