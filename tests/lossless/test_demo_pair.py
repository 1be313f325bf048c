"""The demo pair: the target's own text, from both drafters, full and trimmed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_pairs import Watched
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.model import load_model
from vocabtrim.decode.target import Target
from vocabtrim.families.base import family_of
from vocabtrim.pipeline.eval import Contender, EvalResult, evaluate
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.prompts import Prompt, PromptEncoder, read_prompts

V = 49_152
FREQUENT = DraftVocab(np.arange(4096), V)
"""The ids that byte-pair merging made first, which are the frequent ones."""
SHORT = [Prompt("short", ({"role": "user", "content": "What is the capital of France?"},))]
OPEN = Prompt("open", ({"role": "user", "content": "Describe a walk along the sea."},))


@pytest.fixture(scope="module")
def pair(demo_cache: Path) -> tuple[Path, Any]:
    path = locate("demo")
    return path, load_model(path)


def varied_prompts(count: int) -> list[Prompt]:
    """Return prompts of all domains that ship with the package."""
    prompts = read_prompts([Path(str(files("vocabtrim.demo") / "prompts.jsonl"))])
    return prompts[:: len(prompts) // count][:count]


def compared(
    prompts: list[Prompt],
    vocabs: list[DraftVocab | None],
    *,
    gammas: list[int],
    max_new_tokens: int,
    batch: int = 1,
) -> EvalResult:
    contenders = [
        Contender(name, locate(name), vocab)
        for name in ("demo-eagle3", "demo-lm")
        for vocab in vocabs
    ]
    return evaluate(
        prompts,
        locate("demo"),
        contenders,
        gammas=gammas,
        max_new_tokens=max_new_tokens,
        timed_prompts=1,
        batch=batch,
    )


def require_lossless(result: EvalResult) -> None:
    assert result.different == {}
    assert result.is_lossless
    for one in result.runs[1:]:
        assert one.acceptance_rate is not None
        assert 0 < one.acceptance_rate < 1
        # some drafts are wrong from the start, some right, and at gamma 1 some right as a
        # whole; longer drafts that are right as a whole are for drafters better than these
        # (test_chain.py has them, with a drafter that is always right)
        assert min(one.accepted_histogram[:2]) > 0


def test_a_short_text(demo_cache: Path) -> None:
    result = compared(SHORT, [FREQUENT], gammas=[2], max_new_tokens=12)
    assert result.different == {}
    assert result.is_lossless
    assert [one.K for one in result.runs] == [None, 4096, 4096]
    for one in result.runs[1:]:
        assert one.acceptance_rate is not None
        assert 0 < one.acceptance_rate < 1


@pytest.mark.proof
@pytest.mark.parametrize("gamma", [1, 2, 4])
def test_varied_prompts_at_several_draft_lengths(demo_cache: Path, gamma: int) -> None:
    vocabs = [None, FREQUENT]
    require_lossless(compared(varied_prompts(24), vocabs, gammas=[gamma], max_new_tokens=32))


@pytest.mark.proof
def test_prompts_side_by_side(demo_cache: Path) -> None:
    # prompts of all lengths, each keeping as many drafts as it may
    result = compared(varied_prompts(8), [FREQUENT], gammas=[4], max_new_tokens=32, batch=8)
    require_lossless(result)


@pytest.mark.proof
@pytest.mark.parametrize("name", ["demo-eagle3", "demo-lm"])
@pytest.mark.parametrize("vocab", [None, FREQUENT], ids=["full", "trimmed"])
def test_every_cycle_begins_as_a_fresh_pass_would(
    pair: tuple[Path, Any], name: str, vocab: DraftVocab | None
) -> None:
    path, model = pair
    target, checkpoint = Checkpoint.open(path), Checkpoint.open(locate(name))
    family = family_of(checkpoint)
    drafter, twin = (family.load_drafter(checkpoint, target, model, vocab) for _ in range(2))
    # keys of the drafters reach 30, and float32 keeps seven digits of them
    watch = Watched(drafter, twin, model, tolerance=2e-3)
    ids = PromptEncoder(path).encode(OPEN).tolist()
    reader = Target(model, drafter.feature_layers)
    text = speculate(reader, watch, ids, gamma=4, max_new_tokens=24)
    assert text.counts.n_accepted > 0
    assert len(watch.drafts) > 3
