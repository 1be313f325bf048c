"""A tiny pair with a tokenizer, and traffic of theirs, for `fit`."""

from __future__ import annotations

import random
from pathlib import Path

from tests.calibration import WORDS, put
from tests.tiny import tiny_eagle3, tiny_target
from tests.tiny_tokenizer import backend, write_tokenizer

V = 320
"""Rows of the head: more than the tokenizer has ids, as is usual."""


def write_pair(directory: Path) -> tuple[Path, Path]:
    """Write a target with its tokenizer and an EAGLE-3 drafter that borrows its head."""
    target = tiny_target(directory / "target", tied=False, vocab_size=V, hidden=32, layers=8)
    write_tokenizer(target)
    drafter = tiny_eagle3(directory / "drafter", vocab_size=V, hidden=32)
    write_tokenizer(drafter)
    return target, drafter


def write_traffic(path: Path, *, documents: int, rare: float = 0.02, seed: int = 0) -> Path:
    """Write chats of common words and, at times, of letters that no other has."""
    draw = random.Random(seed)
    rare_ids = list(range(10, 200))

    def answer() -> str:
        words = draw.choices(WORDS, k=40)
        letters = backend().decode(draw.choices(rare_ids, k=4)).replace("\ufffd", "x")
        return " ".join([*words, *([letters] if draw.random() < rare else [])])

    said = [
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer()}]}
        for _ in range(documents)
    ]
    return put(path, said)
