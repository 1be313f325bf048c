"""Opening a GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.llama_gguf import write_gguf
from tests.tiny import raw_tensors, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_file import GgufFile, is_gguf


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, np.ndarray]:
    directory = tiny_lm(tmp_path / "lm", tied=False)
    generator = np.random.default_rng(0)
    # The norms of tiny models are all ones, which no reordering would change.
    return {
        name: generator.normal(0, 1, raw[1]).astype(np.float32)
        for name, raw in raw_tensors(directory).items()
    }


def test_what_is_no_gguf_or_a_broken_one(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    assert not is_gguf(text)
    with pytest.raises(CheckpointError, match="it is no GGUF file"):
        GgufFile.open(text)
    whole = write_gguf(tmp_path / "m.gguf", weights).read_bytes()
    for length in (4, 20, 300, len(whole) // 2):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:length])
        assert is_gguf(cut)
        with pytest.raises(CheckpointError, match="it is a damaged GGUF file"):
            GgufFile.open(cut)


def test_a_key_that_is_not_there_is_named(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    opened = GgufFile.open(write_gguf(tmp_path / "m.gguf", weights))
    with pytest.raises(CheckpointError, match=r"its metadata lacks no\.such\.key"):
        opened.value("no.such.key")
