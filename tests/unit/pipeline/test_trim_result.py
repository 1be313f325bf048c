"""What any trim is refused for and remembers, whatever holds the drafter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vocabtrim.core.errors import CheckpointError, TokenizerMismatch
from vocabtrim.core.manifest import Manifest
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.trim_result import (
    TrimResult,
    check_fingerprints,
    ids_hash,
    nothing_trimmed,
    over,
    refuse_retyped,
    selection_facts,
)
from vocabtrim.tensors.head_source import HeadOrigin

KEPT = DraftVocab(np.array([1, 4, 7]), 9, "sha256:a")
PLACE = Path("some/drafter")


def test_a_padded_v_is_taken_over_and_a_smaller_one_refused() -> None:
    assert over(KEPT, 64, PLACE).vocab_size == 64
    assert over(KEPT, 8, PLACE).ids.tolist() == [1, 4, 7]
    with pytest.raises(CheckpointError, match=r"drafter: it has 7 ids, .* holds id 7: it was"):
        over(KEPT, 7, PLACE)


def test_ids_have_one_hash_whatever_v_and_tokenizer_are() -> None:
    assert ids_hash(KEPT) == ids_hash(DraftVocab(np.array([1, 4, 7]), 64))
    assert ids_hash(KEPT) != ids_hash(DraftVocab(np.array([1, 4, 8]), 9))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"drafter": "sha256:a", "target": "sha256:a"}, None),
        ({"drafter": None, "target": None}, None),
        ({"drafter": "sha256:b"}, "another tokenizer than the drafter's"),
        ({"drafter": None, "target": "sha256:b"}, "another tokenizer than the target's"),
    ],
)
def test_tokenizers_are_held_against_the_vocabularys(
    found: dict[str, str | None], says: str | None
) -> None:
    if says is None:
        check_fingerprints(KEPT, found)
        return
    with pytest.raises(TokenizerMismatch, match=says):
        check_fingerprints(KEPT, found)


def test_drafter_and_target_are_held_against_one_another() -> None:
    unknown = DraftVocab(KEPT.ids, 9)
    with pytest.raises(TokenizerMismatch, match="drafter and target have different tokenizers"):
        check_fingerprints(unknown, {"drafter": "sha256:a", "target": "sha256:b"})


def test_a_head_that_stays_has_no_other_type() -> None:
    refuse_retyped(None, PLACE)
    with pytest.raises(CheckpointError, match="cannot become q8_0"):
        refuse_retyped("q8_0", PLACE)
    said = nothing_trimmed(DraftVocab.full(9), HeadOrigin.TARGET)
    assert (
        said == f"all 9 ids are kept, so the head stays {HeadOrigin.TARGET} and nothing was trimmed"
    )


def test_what_made_a_vocabulary_is_remembered() -> None:
    assert selection_facts(None) == {}
    manifest = Manifest("draft vocabulary", 9, None, {"counts": "sha256:c"}, {"top_k": 3}, {"K": 3})
    assert selection_facts(manifest) == {
        "inputs": {"counts": "sha256:c"},
        "options": {"top_k": 3},
        "facts": {"K": 3},
    }


def test_a_result_is_a_document() -> None:
    result = TrimResult(
        "out",
        "eagle3",
        9,
        9,
        3,
        4,
        "F16",
        "F16",
        "its own lm_head",
        72,
        24,
        100.0,
        52.0,
        -48,
        ("w",),
    )
    document = json.loads(json.dumps(result.to_json()))["trim"]
    assert (document["K"], document["warnings"], document["memory_delta_bytes"]) == (3, ["w"], -48)
