"""Calibration data for tests, and the ids that a plain loop finds in it."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny_tokenizer import backend
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.count_result import CountResult

WORDS = ("the", "ants", "and", "an", "é", "🙂", "then", "thesis", "\n\n", "=", "def f(x):", "42")
SAID = [{"role": "user", "content": "the a"}, {"role": "assistant", "content": "an ant"}]


def put(name: str | Path, content: str | bytes | list[Any]) -> Path:
    """Write a file: text, bytes, or records as JSON lines."""
    path = Path(name)
    if isinstance(content, list):
        content = "".join(json.dumps(record) + "\n" for record in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_records(name: str | Path, size: int, *, seed: int = 0) -> Path:
    """Write at least `size` bytes of records of random words, every third with a domain."""
    draw = random.Random(seed)
    path = Path(name)
    with path.open("w", encoding="utf-8") as stream:
        number = 0
        while stream.tell() < size:
            lines = []
            for _ in range(20):
                record: dict[str, Any] = {"text": " ".join(draw.choices(WORDS, k=60))}
                if number % 3 == 0:
                    record["domain"] = "third"
                lines.append(json.dumps(record, ensure_ascii=False) + "\n")
                number += 1
            stream.write("".join(lines))
    return path


def ids_of(*texts: str) -> Counter[int]:
    """Return how often each id occurs in texts."""
    return Counter(token_id for text in texts for token_id in backend().encode(text).ids)


def as_counter(counts: TokenCounts) -> Counter[int]:
    """Return counts as a dictionary of the ids that occur."""
    return Counter({int(one): int(counts.counts[one]) for one in np.flatnonzero(counts.counts)})


def counted(*data: str, **options: Any) -> tuple[CountResult, TokenCounts]:
    """Count with the tokenizer in `t`; return the result and what was written."""
    output = Path(f"{len(list(Path().iterdir()))}.safetensors")
    result = count(list(data), Path("t"), output, **options)
    return result, read_counts(output)[0]
