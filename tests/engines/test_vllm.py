"""vLLM on a CPU serves a trimmed EAGLE-3 drafter as it stands on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.plugged import served
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.built_in import demo_drafter, demo_target
from vocabtrim.tokens.tokenizer import fingerprint_of

pytestmark = pytest.mark.engine

PROMPTS = [
    "<|im_start|>user\nWrite a short story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nHow do I reverse a list in Python?<|im_end|>\n<|im_start|>assistant\n",
]
TOKENS, GAMMA = 40, 2
FLOOR = 0.1
"""Far below what the demo drafter reaches, far above what a wrong map does (0)."""


def decoded(drafter: Path | None, log: Path) -> dict[str, Any]:
    """Decode in vLLM's environment, which has none of ours; skip without it."""
    job = {
        "target": str(demo_target()),
        "drafter": None if drafter is None else str(drafter),
        "prompts": PROMPTS,
        "tokens": TOKENS,
        "gamma": GAMMA if drafter is not None else 0,
    }
    return served(job, None, log)


@pytest.fixture(scope="module")
def alone(demo_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the target says by itself."""
    return decoded(None, tmp_path_factory.mktemp("alone") / "log")


@pytest.mark.parametrize("head_type", [None, "f16"])
def test_a_trimmed_drafter_is_served_and_changes_no_word(
    alone: dict[str, Any], tmp_path: Path, head_type: str | None
) -> None:
    # Not the lowest ids: read as offsets that are absolute, or dropped, they would draft nonsense.
    ids = np.unique(np.concatenate([np.arange(30, 3000), np.arange(3000, 49_152, 997)]))
    vocab = DraftVocab(ids[:2048], 49_152, fingerprint_of(demo_target()))
    drafter = demo_drafter("eagle3")
    trim(drafter, vocab, tmp_path / "out", target=demo_target(), head_type=head_type)
    found = decoded(tmp_path / "out", tmp_path / "log")
    assert found["texts"] == alone["texts"]
    assert found["accepted"] > FLOOR * found["drafted"] > 0
