"""A place with a tokenizer and some data, for counting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.calibration import SAID, put
from tests.tiny_tokenizer import write_tokenizer


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a tokenizer in `t` and some data in `data`."""
    monkeypatch.chdir(tmp_path)
    write_tokenizer(tmp_path / "t")
    (tmp_path / "data").mkdir()
    put("data/a.txt", "The ants\n\nand 🙂 the é.\n")
    put("data/chat.jsonl", [{"messages": SAID}, {"messages": SAID[:1]}])
    put("data/code.jsonl", [{"text": "the = 1"}, {"text": ""}, {"text": "a", "domain": "extra"}])
    return tmp_path
