"""What a count came to, as a reader and a program see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.calibration import counted
from vocabtrim.core.counts import TokenCounts
from vocabtrim.pipeline.count_result import CountResult


def test_lines_for_a_reader(place: Path) -> None:
    result, _ = counted("data", domains={"code": "*code*"})
    text = "\n".join(result.lines())
    assert f"{result.tokens:,} tokens" in text
    assert "4 in 3 files; 2 without a token to count" in text
    assert f"{result.distinct} of {result.V} seen" in text
    assert "  code            " in text
    assert "enough?    " in text
    assert f"with {result.backend}" in result.lines()[-1]


def test_what_encoded_and_why_not_something_faster_is_said(place: Path) -> None:
    result, counts = counted("data")
    rest: dict[str, Any] = {"files": 1, "bytes": 10, "empty": 0, "left_out": {}}
    rest |= {"output": Path("out"), "seconds": 1.0, "warnings": []}
    made = CountResult.of(counts, backend="tokenizers 1", backend_reason="no wheel", **rest)
    assert made.lines()[-1] == "read       0.0 MB in 1.0 s with tokenizers 1 (no wheel)"
    silent = CountResult.of(counts, backend=None, backend_reason="", **rest)
    assert silent.lines()[-1] == "read       0.0 MB in 1.0 s"
    assert made.tokens == result.tokens


def test_json_holds_every_field(place: Path) -> None:
    result, counts = counted("data", domains={"code": "*code*"})
    document = json.loads(json.dumps(result.to_json()))["count"]
    assert document["V"] == counts.vocab_size
    assert document["domains"]["code"]["tokens"] == counts.domains["code"].n_tokens
    assert document["left_out"] == {}
    assert isinstance(counts, TokenCounts)
